import threading
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from pipelines.transcribe import run
from tfasr.audio.decoding import write_wav
from tfasr.configs.serving import TranscribeConfig
from tfasr.serving.app import make_app


@pytest.fixture(scope="module")
def url(model_folder, service_of):
    app = make_app(service_of(model_folder))
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_level="warning"))
    listener = server.config.bind_socket()
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/counting"
    server.should_exit = True
    thread.join()


@pytest.fixture
def folder(tmp_path):
    """Two recordings, one of them in a sub-folder, and a file that is none."""
    (tmp_path / "inner").mkdir()
    write_wav(tmp_path / "b.wav", np.array([1, 2, 3], np.int16), 8000)
    write_wav(tmp_path / "inner/a.WAV", np.array([4], np.int16), 8000)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


def config(source, model_folder, url, *files):
    if source == "model":
        return TranscribeConfig(model=model_folder, files=files)
    return TranscribeConfig(url=url, files=files)


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
