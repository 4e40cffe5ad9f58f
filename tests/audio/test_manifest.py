import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfasr.audio.manifest import Manifest
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import CorpusError
from tfasr.configs.corpora import ManifestConfig


def add_manifest(folder: Path, name: str, rows: list[dict | str | bytes]) -> Path:
    soundfile.write(folder / "a.wav", np.arange(1, 101, dtype=np.int16), 1000)
    lines = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    (folder / name).write_bytes(data)
    return folder / name


def corpus(source: Path, root: Path | None = None) -> Manifest:
    return Manifest(ManifestConfig(root=root), source, AudioReader(sample_rate=1000))


ROW = {"audio_filepath": "a.wav", "text": "Hello,  World!"}


def test_a_line_with_all_keys(tmp_path):
    keys = {**ROW, "duration": 0.1, "speaker": "ann", "domain": "office", "id": "ann-1"}
    path = add_manifest(tmp_path, "m.jsonl", [keys])
    (entry,), errors = corpus(path).utterances()
    assert not errors
    assert (entry.utterance_id, entry.speaker, entry.domain) == ("ann-1", "ann", "office")
    assert entry.text == "Hello,  World!"
    assert entry.audio_filepath == tmp_path / "a.wav"
    assert entry.origin == f"{path}:1"


def test_an_utterance_without_an_id_is_named_by_split_and_line(tmp_path):
    path = add_manifest(tmp_path, "m.jsonl", [ROW, "", ROW])
    listed, errors = corpus(path).utterances()
    assert not errors
    assert [entry.utterance_id for entry in listed] == ["test-0000001", "test-0000003"]
    assert (listed[0].speaker, listed[0].domain) == ("", "")


def test_a_number_may_name_a_speaker(tmp_path):
    path = add_manifest(tmp_path, "m.jsonl", [{**ROW, "speaker": 17}])
    (entry,), _ = corpus(path).utterances()
    assert entry.speaker == "17"


def test_a_folder_has_the_splits_that_it_has(tmp_path):
    add_manifest(tmp_path, "train.jsonl", [ROW, ROW])
    add_manifest(tmp_path, "valid.jsonl", [ROW])
    listed, _ = corpus(tmp_path).utterances()
    assert [entry.split for entry in listed] == ["train", "train", "valid"]


def test_nemo_names_of_manifests_are_known(tmp_path):
    add_manifest(tmp_path, "train_manifest.json", [ROW])
    add_manifest(tmp_path, "dev_manifest.json", [ROW])
    add_manifest(tmp_path, "test_manifest.json", [ROW])
    listed, _ = corpus(tmp_path).utterances()
    assert [entry.split for entry in listed] == ["train", "valid", "test"]


def test_a_line_as_nemo_writes_it(tmp_path):
    line = (
        '{"audio_filepath": "a.wav", "duration": 0.03, "text": "hi", "offset": 0.0, "lang": "en"}'
    )
    reader = corpus(add_manifest(tmp_path, "m.json", [line]))
    (entry,), errors = reader.utterances()
    assert not errors
    (audio,) = reader.samples([entry])
    assert audio.tolist() == list(range(1, 31))


@pytest.mark.parametrize("other", ["valid_manifest.json", "dev.jsonl", "dev_manifest.json"])
def test_two_manifests_of_one_split_are_refused(tmp_path, other):
    add_manifest(tmp_path, "valid.jsonl", [ROW])
    add_manifest(tmp_path, other, [ROW])
    with pytest.raises(ValueError, match=rf"one manifest; got valid\.jsonl and {other} for valid"):
        corpus(tmp_path).utterances()


def test_an_absolute_path_may_lie_anywhere(tmp_path):
    (tmp_path / "lists").mkdir()
    rows = [{**ROW, "audio_filepath": str(tmp_path / "a.wav")}]
    add_manifest(tmp_path, "lists/m.jsonl", rows)
    (entry,), _ = corpus(tmp_path / "lists" / "m.jsonl").utterances()
    assert entry.audio_filepath == tmp_path / "a.wav"


@pytest.mark.parametrize("name", ["../a.wav", "wav/../../a.wav"])
def test_a_relative_path_that_leaves_the_folder_is_refused(tmp_path, name):
    (tmp_path / "lists").mkdir()
    path = add_manifest(tmp_path, "lists/m.jsonl", [{**ROW, "audio_filepath": name}])
    listed, (error,) = corpus(path).utterances()
    assert not listed
    assert str(error) == (
        f"{path}:1: 'audio_filepath' must stay in {tmp_path / 'lists'}; got '{name}' "
        "(--manifest.root DIR allows what is in DIR)"
    )


def test_a_relative_path_starts_at_the_manifest_and_may_go_where_the_root_allows(tmp_path):
    (tmp_path / "lists").mkdir()
    rows = [{**ROW, "audio_filepath": "../a.wav"}, {**ROW, "audio_filepath": "../../a.wav"}]
    path = add_manifest(tmp_path, "lists/m.jsonl", rows)
    (entry,), (error,) = corpus(path, root=tmp_path).utterances()
    assert entry.audio_filepath == tmp_path / "a.wav"
    assert str(error).startswith(f"{path}:2: 'audio_filepath' must stay in {tmp_path}; got ")


def test_a_root_may_be_narrower_than_the_folder_of_the_manifest(tmp_path):
    path = add_manifest(tmp_path, "m.jsonl", [ROW])
    _, (error,) = corpus(path, root=tmp_path / "wav").utterances()
    assert f"must stay in {tmp_path / 'wav'}; got 'a.wav'" in str(error)


def test_a_folder_with_a_like_name_is_outside(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "mm").mkdir()
    add_manifest(tmp_path / "mm", "m.jsonl", [])
    path = add_manifest(tmp_path / "m", "m.jsonl", [{**ROW, "audio_filepath": "../mm/a.wav"}])
    _, (error,) = corpus(path).utterances()
    assert "must stay in" in str(error)


def test_a_link_in_the_folder_may_lead_out_of_it(tmp_path):
    (tmp_path / "lists").mkdir()
    rows = [{**ROW, "audio_filepath": "wav/a.wav"}]
    path = add_manifest(tmp_path, "lists/m.jsonl", rows)
    (tmp_path / "lists" / "wav").symlink_to(tmp_path)
    (entry,), _ = corpus(path).utterances()
    assert entry.audio_filepath == tmp_path / "lists" / "wav" / "a.wav"


def test_a_step_back_from_a_link_leads_to_the_folder_that_was_checked(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "wav").mkdir()
    rows = [{**ROW, "audio_filepath": "wav/../a.wav"}]
    path = add_manifest(tmp_path, "lists/m.jsonl", rows)
    (tmp_path / "lists" / "wav").symlink_to(tmp_path / "wav")
    _, (error,) = corpus(path).utterances()
    assert str(error).endswith(f"must be a file; there is no {tmp_path / 'lists' / 'a.wav'}")


def test_paths_with_spaces_and_other_alphabets_work(tmp_path, monkeypatch):
    folder = tmp_path / "zwölf 音声"
    folder.mkdir()
    add_manifest(folder, "train.jsonl", [{**ROW, "audio_filepath": "wav 1/été.wav"}])
    (folder / "wav 1").mkdir()
    (folder / "a.wav").rename(folder / "wav 1" / "été.wav")
    monkeypatch.chdir(tmp_path)
    reader = corpus(Path("zwölf 音声"))
    (audio,) = reader.samples(reader.utterances()[0])
    assert audio.tolist() == list(range(1, 101))


def test_a_duration_without_an_offset_is_a_rounded_one_of_the_whole_recording(tmp_path):
    reader = corpus(add_manifest(tmp_path, "m.jsonl", [{**ROW, "duration": 0.05}]))
    (audio,) = reader.samples(reader.utterances()[0])
    assert len(audio) == 100


def test_samples_are_those_of_the_recording(tmp_path):
    reader = corpus(add_manifest(tmp_path, "m.jsonl", [ROW]))
    (audio,) = reader.samples(reader.utterances()[0])
    assert audio.tolist() == list(range(1, 101))


def test_an_offset_and_a_duration_cut_a_part_out(tmp_path):
    reader = corpus(add_manifest(tmp_path, "m.jsonl", [{**ROW, "offset": 0.02, "duration": 0.03}]))
    (audio,) = reader.samples(reader.utterances()[0])
    assert audio.tolist() == list(range(21, 51))


def test_a_rounded_duration_may_end_just_behind_the_recording(tmp_path):
    reader = corpus(add_manifest(tmp_path, "m.jsonl", [{**ROW, "offset": 0.09, "duration": 0.015}]))
    (audio,) = reader.samples(reader.utterances()[0])
    assert audio.tolist() == list(range(91, 101))


@pytest.mark.parametrize(("offset", "duration"), [(0.2, 0.1), (0.05, 0.1), (0.01, 0)])
def test_a_part_outside_the_recording_is_an_error(tmp_path, offset, duration):
    row = {**ROW, "offset": offset, "duration": duration}
    path = add_manifest(tmp_path, "m.jsonl", [row])
    reader = corpus(path)
    (error,) = reader.samples(reader.utterances()[0])
    assert str(error) == (
        f"{path}:1: offset and duration must lie in the recording; "
        f"got {float(offset)} s and {float(duration)} s of 0.1 s"
    )


def test_listing_decodes_no_audio(tmp_path):
    path = add_manifest(tmp_path, "m.jsonl", [ROW])
    (tmp_path / "a.wav").write_bytes(b"broken")
    reader = corpus(path)
    listed, errors = reader.utterances()
    assert (len(listed), errors) == (1, [])
    (error,) = reader.samples(listed)
    assert isinstance(error, CorpusError)
    assert str(error).startswith(f"{tmp_path / 'a.wav'}: must be audio that libsndfile reads")


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("{'text': 1}", "must be JSON; Expecting property name"),
        ("[" * 100000, "must be JSON; "),
        ('{"id": ' + "1" * 5000 + "}", "must be JSON; "),
        ("[1, 2]", "must be a JSON object; got [1, 2]"),
        (b'{"text": "caf\xe9"}', "must be UTF-8; "),
        ({"text": "x"}, "must have 'audio_filepath'; got text"),
        ({"audio_filepath": "a.wav"}, "must have 'text'; got audio_filepath"),
        ({**ROW, "text": " "}, "'text' must not be empty; got ' '"),
        ({**ROW, "text": 7}, "'text' must be a string; got 7"),
        ({**ROW, "text": "\ud800"}, "'text' must be whole characters; "),
        ({**ROW, "audio_filepath": ""}, "'audio_filepath' must not be empty; got ''"),
        ({**ROW, "audio_filepath": "b.wav"}, "'audio_filepath' must be a file; there is no "),
        ({**ROW, "audio_filepath": "b" * 999}, "'audio_filepath' must be a file; there is no "),
        ({**ROW, "audio_filepath": "a.wav\0"}, "'audio_filepath' must be a file; there is no "),
        ({**ROW, "audio_filepath": "folder"}, "'audio_filepath' must be a file; /"),
        ({**ROW, "audio_filepath": "../b.wav"}, "'audio_filepath' must stay in /"),
        ({**ROW, "speaker": 1.5}, "'speaker' must be a string or a whole number; got 1.5"),
        ({**ROW, "id": "good"}, "an id must be given once; good is also at "),
        ({**ROW, "id": "no/good"}, "an id must be letters, digits"),
        ({**ROW, "offset": -1}, "a segment's 'offset' must be 0 to 1e9 seconds; got -1"),
        ({**ROW, "offset": 1}, "a segment's 'duration' must be 0 to 1e9 seconds; got None"),
    ],
)
def test_an_unusable_line_is_named_and_the_others_kept(tmp_path, row, rule):
    (tmp_path / "folder").mkdir()
    path = add_manifest(tmp_path, "m.jsonl", [{**ROW, "id": "good"}, row, ROW])
    listed, (error,) = corpus(path).utterances()
    assert [entry.utterance_id for entry in listed] == ["good", "test-0000003"]
    assert str(error).startswith(f"{path}:2: {rule}")
    assert "\n" not in str(error)


def test_an_id_in_two_splits_is_refused(tmp_path):
    add_manifest(tmp_path, "train.jsonl", [{**ROW, "id": "one"}])
    add_manifest(tmp_path, "test.jsonl", [{**ROW, "id": "one"}])
    listed, (error,) = corpus(tmp_path).utterances()
    assert [entry.split for entry in listed] == ["train"]
    assert str(error).startswith(f"{tmp_path / 'test.jsonl'}:1: an id must be given once")


def test_a_source_without_manifests_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a folder with train\.jsonl, .*; got source="):
        corpus(tmp_path).utterances()
