import asyncio
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfasr.audio.decoding import wav_bytes
from tfasr.configs.serving import GatheringConfig
from tfasr.serving.versions import Versions, VersionState


def wav(*samples):
    return wav_bytes(np.array(samples, np.int16), 8000)


@pytest.fixture
def folder(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "demo")
    return tmp_path / "demo"


def add(folder, version):
    """Puts a copy of version 2 there under its name at once, as an export does."""
    shutil.copytree(folder / "2", folder / f".{version}")
    (folder / f".{version}").rename(folder / str(version))


def add_broken(folder, version):
    (folder / str(version)).mkdir()
    (folder / str(version) / "saved_model.pb").write_bytes(b"no protocol buffer")
    (folder / str(version) / "export.json").write_text('{"sample_rate": 8000}')


def refresh(versions):
    asyncio.run(versions.refresh())
    return versions.current.version


def test_the_newest_of_new_versions_is_served(folder):
    versions = Versions(folder, max_seconds=2.0)
    before = versions.current
    assert refresh(versions) == 2
    assert versions.current is before
    add(folder, 4)
    add(folder, 3)
    assert refresh(versions) == 4
    assert versions.states() == [VersionState(version=4, state="AVAILABLE")]
    assert before.transcribe([wav(1, 2)]) == versions.current.transcribe([wav(1, 2)]) == ["2 3"]


def test_the_version_before_is_served_again_where_the_newest_is_removed(folder):
    add(folder, 3)
    versions = Versions(folder, max_seconds=2.0)
    shutil.rmtree(folder / "3")
    assert refresh(versions) == 2


def test_a_model_whose_folder_goes_away_stays(folder):
    versions = Versions(folder, max_seconds=2.0)
    shutil.rmtree(folder)
    assert refresh(versions) == 2
    assert versions.current.transcribe([wav(1)]) == ["1 1"]


def test_a_broken_version_is_refused_once_until_its_files_change(folder, caplog):
    versions = Versions(folder, max_seconds=2.0)
    add_broken(folder, 3)
    with caplog.at_level(logging.WARNING, "tfasr.serving.versions"):
        assert refresh(versions) == 2
        assert refresh(versions) == 2
    [line] = caplog.messages
    assert line.startswith(f"{folder}/3: cannot be loaded; ")
    assert line.endswith("; version 2 goes on being served")
    assert "\n" not in line
    available, refused = versions.states()
    assert (available.version, refused.version, refused.state) == (2, 3, "END")
    assert refused.reason.startswith(f"{folder}/3: cannot be loaded")
    shutil.rmtree(folder / "3")
    add(folder, 3)
    assert refresh(versions) == 3
    assert [state.version for state in versions.states()] == [3]


class Numbers(tf.Module):
    """Gives numbers where text is wanted."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def serving_default(self, audio):
        return {"text": tf.strings.length(audio)}


def test_a_version_that_fails_in_a_way_of_its_own_is_refused_too(folder):
    versions = Versions(folder, max_seconds=2.0)
    model = Numbers()
    signatures = {"serving_default": model.serving_default}
    tf.saved_model.save(model, str(folder / "3"), signatures=signatures)
    (folder / "3/export.json").write_text('{"sample_rate": 8000}')
    assert refresh(versions) == 2
    [_, refused] = versions.states()
    assert refused.reason.startswith(f"{folder}/3: AttributeError; ")


def test_no_request_is_dropped_while_the_version_changes(folder, service_of):
    gathering = GatheringConfig(delay_seconds=0.0)
    service = service_of(folder, poll_seconds=0.01, gathering=gathering)

    async def ask(number):
        [heard] = await service.transcribe(service.versions.current, [("file", wav(number))])
        return heard.text == f"1 {number}"

    async def run():
        right = []
        async with service:
            add(folder, 3)
            while service.versions.current.version != 3 or len(right) < 50:
                right += await asyncio.gather(*map(ask, range(4)))
        return right

    assert all(asyncio.run(run()))
