import gc
import io
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines.transcribe import Hearing, run
from tfasr.audio.decoding import write_wav
from tfasr.configs.serving import TranscribeConfig
from tfasr.serving.runtime import ServedModel
from tfasr.serving.transcripts import Transcript


@pytest.fixture(scope="module")
def url(model_folder, service_of, listening):
    return f"http://127.0.0.1:{listening(service_of(model_folder))}/v1/models/counting"


@pytest.fixture
def folder(tmp_path):
    """Two recordings, one of them in a sub-folder, and a file that is none."""
    (tmp_path / "inner").mkdir()
    write_wav(tmp_path / "b.wav", np.array([1, 2, 3], np.int16), 8000)
    write_wav(tmp_path / "inner/a.WAV", np.array([4], np.int16), 8000)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


def config(source, model_folder, url, *files, **settings):
    where = {"model": model_folder} if source == "model" else {"url": url}
    return TranscribeConfig(**where, files=files, **settings)


sources = pytest.mark.parametrize("source", ["model", "url"])


@sources
def test_folders_are_expanded_to_their_audio(source, model_folder, url, folder, capsys):
    run(config(source, model_folder, url, folder))
    assert capsys.readouterr().out == f"{folder}/b.wav\t3 6\n{folder}/inner/a.WAV\t1 4\n"


@sources
def test_a_bad_file_does_not_harm_the_others(source, model_folder, url, folder, capsys):
    files = folder / "notes.txt", folder / "absent.wav", folder / "b.wav"
    with pytest.raises(SystemExit) as stop:
        run(config(source, model_folder, url, *files))
    assert stop.value.code == 1
    output = capsys.readouterr()
    assert output.out == f"{folder}/b.wav\t3 6\n"
    reasons = output.err.splitlines()
    assert len(reasons) == 2
    assert reasons[0].startswith(f"{folder}/notes.txt: must be an audio file")
    assert reasons[1] == f"{folder}/absent.wav: must be a file that can be read; " + (
        "No such file or directory"
    )


def test_garbage_is_looked_for_again_once_the_model_is_there(model_folder, folder, monkeypatch):
    seen = []
    load = ServedModel.__init__
    monkeypatch.setattr(
        ServedModel, "__init__", lambda *a, **k: (seen.append(gc.isenabled()), load(*a, **k))[1]
    )
    try:
        run(TranscribeConfig(model=model_folder, files=(folder / "b.wav",)))
    finally:
        gc.unfreeze()
    assert seen == [False]
    assert gc.isenabled()


def test_no_more_are_heard_at_once_than_are_wanted_and_little_waits():
    now, most, begun, gate = [], [], [], threading.Event()

    def transcribe(audio):
        now.append(audio)
        most.append(len(now))
        assert gate.wait(20)
        now.remove(audio)
        return Transcript(text=audio.decode(), seconds=1.0)

    def begin(hearing):
        for number in range(9):
            begun.append(hearing.begin(b"%d" % number))

    with Hearing(transcribe, 2) as hearing:
        thread = threading.Thread(target=begin, args=(hearing,))
        thread.start()
        while len(begun) < 4:
            thread.join(0.01)
        thread.join(0.2)
        assert len(begun) == 4
        gate.set()
        thread.join()
        assert [future.result().text for future in begun] == [str(n) for n in range(9)]
    assert max(most) == 2


@pytest.mark.parametrize("parallel", [1, 3])
def test_texts_come_in_the_order_of_files_however_many_are_heard_at_once(
    parallel, model_folder, folder, tmp_path, capsys
):
    names = [f"{number}.wav" for number in range(7)]
    several = tmp_path / "several"
    several.mkdir()
    for name in names:
        shutil.copy(folder / "b.wav", several / name)
    (several / "3.wav").write_bytes(b"no audio")
    with pytest.raises(SystemExit):
        run(TranscribeConfig(model=model_folder, files=(several,), parallel=parallel))
    out, err = capsys.readouterr()
    told = [Path(line.split("\t")[0]).name for line in out.splitlines()]
    assert told == [name for name in names if name != "3.wav"]
    assert len({line.split("\t")[1] for line in out.splitlines()}) == 1
    assert err.count("\n") == 1
    assert "3.wav: " in err


def test_a_folder_without_audio_is_told(model_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(TranscribeConfig(model=model_folder, files=(tmp_path,)))
    assert capsys.readouterr().err == f"{tmp_path}: must hold audio files; it holds none\n"


def test_a_server_that_is_not_there_ends_the_stage_at_once(folder):
    absent = TranscribeConfig(
        url="http://127.0.0.1:1/v1/models/x", files=(folder / "b.wav", Path("c.wav"))
    )
    with pytest.raises(ValueError, match="no answer"):
        run(absent)


@pytest.fixture(scope="module")
def timed_url(timed_folder, service_of, listening):
    return f"http://127.0.0.1:{listening(service_of(timed_folder))}/v1/models/timed"


@sources
def test_subtitles_are_written_beside_each_other(source, timed_folder, timed_url, folder, tmp_path):
    out = tmp_path / "out"
    run(config(source, timed_folder, timed_url, folder, format="srt", out=out))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "b.srt",
        "inner/a.srt",
    ]
    assert (out / "b.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\n3 6\n"


@sources
def test_json_has_a_line_for_each_file(source, timed_folder, timed_url, folder, capsys):
    run(config(source, timed_folder, timed_url, folder / "b.wav", format="json"))
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "file": f"{folder}/b.wav",
        "text": "3 6",
        "seconds": 3 / 8000,
        "words": [
            {"text": "3", "start": 0.0, "end": 0.5},
            {"text": "6", "start": 0.5, "end": 1.0},
        ],
    }


def test_the_standard_input_is_a_file_too(model_folder, folder, capsys, monkeypatch):
    audio = io.TextIOWrapper(io.BytesIO((folder / "b.wav").read_bytes()))
    monkeypatch.setattr("sys.stdin", audio)
    run(TranscribeConfig(model=model_folder, files=(Path("-"),), format="text"))
    assert capsys.readouterr().out == "3 6\n"


def test_two_files_of_one_name_do_not_overwrite_each_other(model_folder, folder, tmp_path, capsys):
    (folder / "b.aiff").write_bytes((folder / "inner/a.WAV").read_bytes())
    out = tmp_path / "out"
    settings = {"model": model_folder, "format": "text", "out": out}
    with pytest.raises(SystemExit):
        run(TranscribeConfig(files=(folder / "b.aiff", folder / "b.wav"), **settings))
    assert (out / "b.txt").read_text() == "1 4\n"
    assert "is the transcript of another file" in capsys.readouterr().err


@sources
def test_a_long_recording_is_heard_in_parts(source, model_folder, url, tmp_path, capsys):
    # Two seconds at 8000 Hz, with a pause from 0.8 to 1.1 s; at most 1.2 s are heard at once.
    samples = np.ones(16000, np.int16)
    samples[6400:8800] = 0
    write_wav(tmp_path / "long.wav", samples, 8000)
    run(config(source, model_folder, url, tmp_path / "long.wav", max_seconds=1.2))
    assert capsys.readouterr().out == f"{tmp_path}/long.wav\t7600 6400 8400 7200\n"


@pytest.mark.parametrize(
    ("seconds", "heard"), [(2, "16000 13600"), (3, "7600 6400 7600 5200 8800 7600")]
)
def test_what_is_over_twice_as_long_as_a_model_was_trained_on_is_parted(
    model_folder, tmp_path, capsys, seconds, heard
):
    folder = tmp_path / "counting"
    shutil.copytree(model_folder, folder)
    (folder / "2/export.json").write_text('{"sample_rate": 8000, "longest_seconds": 1.2}')
    samples = np.ones(seconds * 8000, np.int16)
    samples[6400:8800] = 0
    if seconds > 2:
        samples[14000:16400] = 0
    write_wav(tmp_path / "long.wav", samples, 8000)
    run(TranscribeConfig(model=folder, files=(tmp_path / "long.wav",), format="text"))
    assert capsys.readouterr().out == f"{heard}\n"


@sources
def test_words_of_parts_have_the_times_of_the_recording(
    source, timed_folder, timed_url, tmp_path, capsys
):
    samples = np.ones(16000, np.int16)
    samples[6400:8800] = 0
    write_wav(tmp_path / "long.wav", samples, 8000)
    file = tmp_path / "long.wav"
    run(config(source, timed_folder, timed_url, file, format="json", max_seconds=1.2))
    heard = json.loads(capsys.readouterr().out)
    assert heard["seconds"] == pytest.approx(2.0)
    times = [(word["text"], word["start"], word["end"]) for word in heard["words"]]
    assert times == [
        ("7600", 0.0, 0.5),
        ("6400", 0.5, 1.0),
        ("8400", 0.95, 1.45),
        ("7200", 1.45, 1.95),
    ]


def test_a_long_recording_on_the_standard_input_is_heard_in_parts(
    model_folder, tmp_path, capsys, monkeypatch
):
    write_wav(tmp_path / "long.wav", np.ones(16000, np.int16), 8000)
    audio = io.TextIOWrapper(io.BytesIO((tmp_path / "long.wav").read_bytes()))
    monkeypatch.setattr("sys.stdin", audio)
    settings = {"files": (Path("-"),), "format": "text", "max_seconds": 1.2}
    run(TranscribeConfig(model=model_folder, **settings))
    heard = [int(word) for word in capsys.readouterr().out.split()]
    assert sum(heard[::2]) == sum(heard[1::2]) == 16000
