import sys

import pytest
import soundfile

from tfasr.audio import say

pytest.importorskip("espeakng_loader")


def test_a_sentence_is_written_as_a_recording(tmp_path, monkeypatch, capsys):
    path = tmp_path / "new" / "speech.wav"
    monkeypatch.setattr(sys, "argv", ["say", "three seven one", str(path)])
    say.main()
    assert capsys.readouterr().out == f"{path}: three seven one\n"
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 22050
    assert 0.5 * rate < len(samples) < 5 * rate
    assert abs(samples).max() > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [(["hello"], "must be given a sentence and a file"), ([" ", "a.wav"], "something to say")],
)
def test_what_cannot_be_said_is_told(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["say", *words])
    with pytest.raises(SystemExit, match=message):
        say.main()
    assert not (tmp_path / "a.wav").exists()
