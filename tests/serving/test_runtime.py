import shutil

import numpy as np
import pytest

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.inputs import InputError
from tfasr.serving.runtime import ServedModel, newest_version


def wav(*samples):
    return wav_bytes(np.array(samples, np.int16), 8000)


def version(folder, name, files=("saved_model.pb", "export.json")):
    (folder / name).mkdir(parents=True)
    for file in files:
        (folder / name / file).write_text("{}")


def test_newest_version_is_the_highest_number(tmp_path):
    for name in ("9", "10", "2"):
        version(tmp_path, name)
    assert newest_version(tmp_path) == 10


def test_folders_that_are_no_complete_version_are_left_out(tmp_path):
    version(tmp_path, "1")
    version(tmp_path, "2", files=["saved_model.pb"])
    version(tmp_path, "3", files=["export.json"])
    for name in ("0", "04", "v5", ".6.staging", "²"):
        version(tmp_path, name)
    assert newest_version(tmp_path) == 1


def test_a_missing_model_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such model folder; .*tfasr export --run"):
        newest_version(tmp_path / "absent")


def test_a_model_folder_without_a_version_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"no complete version in it .*tfasr export --run"):
        newest_version(tmp_path)


def test_a_version_given_in_place_of_its_model_says_so(tmp_path):
    version(tmp_path, "4")
    with pytest.raises(ValueError, match=f"give its folder {tmp_path}"):
        newest_version(tmp_path / "4")


def test_a_damaged_model_is_told_on_one_line(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "damaged")
    (tmp_path / "damaged/2/saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ValueError, match=r"^[^\n]*damaged/2: cannot be loaded; [^\n]+$"):
        ServedModel(tmp_path / "damaged")


@pytest.mark.parametrize("export", ["", "[]", "{}", '{"sample_rate": 0}', '{"sample_rate": "8"}'])
def test_export_json_must_have_the_sample_rate(model_folder, tmp_path, export):
    shutil.copytree(model_folder, tmp_path / "demo")
    (tmp_path / "demo/2/export.json").write_text(export)
    with pytest.raises(ValueError, match=r"export\.json: "):
        ServedModel(tmp_path / "demo")


def test_a_name_that_no_url_holds_is_refused(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "my model")
    with pytest.raises(ValueError, match="name must be letters"):
        ServedModel(tmp_path / "my model")


def test_the_model_knows_what_it_is(model):
    assert (model.name, model.version, model.sample_rate) == ("counting", 2, 8000)
    assert model.signatures == {
        "serving_default": ("audio",),
        "waveforms": ("waveforms", "num_samples"),
    }


def test_files_of_unequal_length_keep_their_order_and_samples(model):
    assert model.transcribe([wav(1, 2, 3), wav(-5)]) == ["3 6", "1 -5"]


def test_both_signatures_hear_the_same_samples(model):
    instances = [{"waveforms": [1 / 32768, 2 / 32768, 0.5], "num_samples": 2}]
    [answer] = model.answers("waveforms", model.waveforms_of(instances))
    assert [answer["text"]] == model.transcribe([wav(1, 2)]) == ["2 3"]


def test_nothing_gives_nothing(model):
    assert model.transcribe([]) == model.waveforms_of([]) == model.answers("waveforms", []) == []


def test_the_instance_that_cannot_be_used_is_named(model):
    with pytest.raises(InputError, match=r"^instance 1: "):
        model.transcribe([wav(1), b"no audio", wav(1)])


def test_a_refusal_by_the_graph_itself_is_an_input_error(model_folder):
    other_rate = ServedModel(model_folder)
    other_rate.sample_rate = 16000
    with pytest.raises(InputError, match=r"^the model refuses this audio; [^\n]+$"):
        other_rate.transcribe([wav(1, 2)])


def test_signatures_are_called_side_by_side_once_their_graphs_were_seen(model_folder):
    model = ServedModel(model_folder)
    assert set(model.one_at_a_time) == {"serving_default", "waveforms"}
    model.warm_up()
    assert model.one_at_a_time == []


def test_a_graph_that_two_calls_would_corrupt_is_called_one_at_a_time(normed_folder, caplog):
    model = ServedModel(normed_folder)
    model.warm_up()
    assert set(model.one_at_a_time) == {"serving_default", "waveforms"}
    assert model.transcribe([wav(1, 2)]) == ["2 3"]
    assert "calls of waveforms are heard one at a time" in caplog.text
