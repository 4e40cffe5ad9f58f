import dataclasses
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfasr.audio import espeak
from tfasr.audio.espeak import SAMPLE_RATE, Sentence, speak

pytest.importorskip("espeakng_loader", reason="the synthetic corpus is optional")


def sentence(number, **changes):
    return Sentence(
        sentence_id=f"s{number}",
        text="turn the garden light off",
        accent="en-us",
        variant=["f2", "m3", "f5"][number % 3],
        seed=number,
        **changes,
    )


def all_equal(first, second):
    return len(first) == len(second) and all(map(np.array_equal, first, second))


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")

SENTENCES = [sentence(number) for number in range(5)]


def test_speech_is_audible_and_as_long_as_its_words():
    (samples,) = speak([sentence(0, rate=150)], jobs=1)
    assert samples.dtype == np.int16
    assert 1.2 < len(samples) / SAMPLE_RATE < 2.5  # five words at 150 a minute: 2 s
    assert 500 < np.sqrt(np.mean(samples.astype(float) ** 2)) < 10000


def test_order_and_number_of_jobs_do_not_change_the_samples():
    forwards = list(speak(SENTENCES, jobs=1))
    backwards = list(speak(SENTENCES[::-1], jobs=3))
    assert all_equal(forwards, backwards[::-1])


def test_a_sentence_does_not_depend_on_what_was_spoken_before():
    (alone,) = speak(SENTENCES[3:4], jobs=1)
    np.testing.assert_array_equal(list(speak(SENTENCES, jobs=1))[3], alone)


def test_the_seed_changes_the_noise():
    breathy = dataclasses.replace(SENTENCES[0], variant="whisper")
    first, second = speak([breathy, dataclasses.replace(breathy, seed=9)], jobs=1)
    assert not np.array_equal(first, second)


def test_a_faster_rate_is_shorter():
    slow, fast = speak([sentence(0, rate=150), sentence(0, rate=300)], jobs=1)
    assert len(fast) < 0.7 * len(slow)


def test_more_sentences_than_the_window_come_in_order():
    lengths = [len(samples) for samples in speak([sentence(n) for n in range(3)] * 4, jobs=1)]
    assert lengths == lengths[:3] * 4
    assert len(set(lengths)) > 1


def test_an_unknown_accent_is_named():
    with pytest.raises(ValueError, match=r"s0: accent and variant .*; got en-gb\+f2"):
        list(speak([dataclasses.replace(SENTENCES[0], accent="en-gb")], jobs=1))


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match=r"s0: accent and variant .*; got en-us\+nobody"):
        list(speak([dataclasses.replace(SENTENCES[0], variant="nobody")], jobs=1))


def test_a_text_without_sound_is_named():
    with pytest.raises(ValueError, match="s0: text must have something to say; got text=' '"):
        list(speak([dataclasses.replace(SENTENCES[0], text=" ")], jobs=1))


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfasr\[synthetic\]'"):
        speak(SENTENCES)


def test_the_worker_loads_no_tensorflow():
    code = "import sys, tfasr.audio.espeak; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def children_of(process_id):
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in children.split()]


def has_ended(process_handle):
    return bool(select.select([process_handle], [], [], 10.0)[0])


@on_linux
def test_workers_end_when_the_parent_is_killed():
    code = (
        "import signal\n"
        "from tfasr.audio.espeak import Sentence, speak\n"
        "one = Sentence(sentence_id='s', text='open the door', accent='en', variant='f2')\n"
        "spoken = speak([one] * 50, jobs=2)\n"
        "print(len(next(spoken)), flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert int(parent.stdout.readline()) > 0
        workers = [os.pidfd_open(worker) for worker in children_of(parent.pid)]
        parent.send_signal(signal.SIGKILL)
        ended = [has_ended(worker) for worker in workers]
    for worker in workers:
        os.close(worker)
    assert ended == [True, True]


@on_linux
def test_a_worker_that_died_is_an_error():
    spoken = speak(SENTENCES * 2, jobs=1)
    others = set(children_of(os.getpid()))
    next(spoken)
    (worker,) = set(children_of(os.getpid())) - others
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"s\d: the espeak-ng process ended before it answered"):
        list(spoken)


@on_linux
def test_workers_end_when_the_consumer_stops_early():
    before = set(children_of(os.getpid()))
    spoken = speak(SENTENCES, jobs=2)
    next(spoken)
    assert len(set(children_of(os.getpid())) - before) == 2
    spoken.close()
    assert set(children_of(os.getpid())) == before
