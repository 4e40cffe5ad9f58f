import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tfasr.artifacts.files import read_json, sha256_of
from tfasr.configs.audio import AudioConfig
from tfasr.configs.corpora import TokenizerConfig
from tfasr.configs.features import FbankConfig
from tfasr.preparation.preparation import Preparation
from tfasr.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]


def skipping(config):
    return replace(config, shards=replace(config.shards, on_error="skip"))


def empty(source, name="train-01"):
    (source / "wav" / f"{name}.wav").write_bytes(b"")


def keep_lines(path, *numbers):
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{lines[number - 1]}\n" for number in numbers))


def test_all_files_are_written(config, prepare, contents_of):
    prepare(config)
    assert contents_of(config.out).keys() == {
        *("data.json", "settings.json", "cmvn.json", "tokenizer.model"),
        *("train.jsonl", "valid.jsonl", "test.jsonl"),
        *("shards/train-00000.tfrecord", "shards/train-00001.tfrecord"),
        *("shards/valid-00000.tfrecord", "shards/test-00000.tfrecord"),
    }
    assert not config.out.with_name("data.partial").exists()


def test_compressed_shards_say_so_in_their_names_and_in_the_index(config, prepare, contents_of):
    data = prepare(replace(config, shards=replace(config.shards, compression="gzip")))
    names = [name for name in contents_of(data.folder) if name.startswith("shards/")]
    assert len(names) == 4
    assert all(name.endswith(".tfrecord.gz") for name in names)
    assert data.index["compression"] == "gzip"


def test_everything_is_counted(config, prepare):
    index = prepare(config).index
    names = ("utterances", "seconds", "tokens", "unknown_tokens", "skipped")
    # Two and three words take turns: of a character each, with a space before it.
    assert {split: [counts[n] for n in names] for split, counts in index["splits"].items()} == {
        "train": [6, 3.75, 30, 0, 0],
        "valid": [2, 1.25, 10, 0, 0],
        "test": [2, 1.25, 10, 0, 0],
    }
    assert index["skipped"] == []


def test_shards_are_counted_and_hashed(config, prepare):
    data = prepare(config)
    shards = data.index["splits"]["train"]["shards"]
    assert [(s["utterances"], s["seconds"], s["tokens"]) for s in shards] == [
        (4, 2.5, 20),
        (2, 1.25, 10),
    ]
    assert [s["sha256"] for s in shards] == [sha256_of(path) for path in data.shards("train")]


def test_the_index_has_the_settings_that_the_data_was_made_with(config, prepare):
    data = prepare(config)
    assert data.index["settings"] == read_json(data.folder / "settings.json")
    tokenizer = {"kind": "char", "vocabulary": 1024, "model": None}
    assert data.index["settings"]["tokenizer"] == tokenizer


def test_tokens_that_the_tokenizer_does_not_know_are_counted(config, prepare, edit_line):
    edit_line(config.source / "valid.jsonl", 1, text="a x e y")
    splits = prepare(config).index["splits"]
    assert [splits[split]["unknown_tokens"] for split in ("train", "valid", "test")] == [0, 2, 0]


def test_a_corpus_of_which_nothing_is_listed_is_refused(config, prepare):
    (config.source / "train.jsonl").write_text("{}\n")
    (config.source / "valid.jsonl").unlink()
    (config.source / "test.jsonl").unlink()
    with pytest.raises(ValueError, match="corpus: holds no usable utterance"):
        prepare(skipping(config))
    assert not config.out.with_name("data.partial").exists()


def test_a_corpus_of_which_no_audio_is_usable_is_refused(config, prepare):
    for path in (config.source / "wav").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no usable utterance; the first is .*must not be empty"):
        prepare(skipping(config))
    assert not config.out.exists()


@pytest.mark.parametrize("after", [0, 4, 6, 10])
def test_an_interrupted_preparation_ends_as_an_uninterrupted_one(
    config, prepare, interrupt, contents_of, after
):
    whole = prepare(replace(config, out=config.out.with_name("whole")))
    interrupt(config, after)
    assert not config.out.exists()
    assert contents_of(prepare(config).folder) == contents_of(whole.folder)


def test_a_resumed_preparation_reads_no_audio_twice(config, prepare, interrupt):
    interrupt(config, 4)
    for number in range(4):
        empty(config.source, f"train-{number:02d}")
    assert prepare(config).index["splits"]["train"]["utterances"] == 6


def test_what_a_failed_shard_had_written_is_not_kept(config, prepare, contents_of):
    empty(config.source, "train-03")
    with pytest.raises(ValueError, match="train-03"):
        prepare(config)
    partial = config.out.with_name("data.partial")
    assert contents_of(partial).keys() == {"listing.json", "settings.json", "tokenizer.model"}


def test_a_preparation_that_is_done_says_so(config, prepare):
    assert not Preparation(config).is_done
    prepare(config)
    assert Preparation(config).is_done


def test_utterances_are_reported_as_they_are_done(config):
    calls = []
    Preparation(config).run(lambda done, total: calls.append((done, total)))
    assert calls == [(0, 10), (4, 10), (6, 10), (8, 10), (10, 10)]


def test_what_was_done_before_is_reported_first(config, interrupt):
    interrupt(config, 6)
    calls = []
    Preparation(config).run(lambda done, total: calls.append((done, total)))
    assert calls == [(6, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("interrupted", [False, True])
def test_other_settings_are_refused_by_name(config, prepare, interrupt, interrupted):
    if interrupted:
        interrupt(config, 4)
    else:
        prepare(config)
    other = replace(config, fbank=FbankConfig(sample_rate=8000, num_mels=9))
    message = r"data(\.partial)?: was made with another fbank\.num_mels; choose"
    with pytest.raises(ValueError, match=message):
        Preparation(other)


def test_another_way_to_make_the_same_data_goes_on(config, prepare, interrupt):
    interrupt(config, 4)
    assert prepare(replace(config, jobs=1, report=True)).index["skipped"] == []


def test_a_folder_of_something_else_is_refused(config):
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("do not touch")
    with pytest.raises(ValueError, match="data: exists and is no prepared data"):
        Preparation(config)
    assert [path.name for path in config.out.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(config):
    config.out.write_text("do not touch")
    with pytest.raises(ValueError, match="data: exists and is no prepared data"):
        Preparation(config)


def test_a_folder_of_hidden_files_is_refused_before_the_work(config):
    config.out.mkdir()
    (config.out / ".DS_Store").write_text("a desktop's")
    with pytest.raises(ValueError, match=r"data: must be empty or not exist; got \.DS_Store in it"):
        Preparation(config)


@pytest.mark.parametrize("out", [".", "/", ".."])
def test_a_folder_without_a_name_is_refused(config, out):
    with pytest.raises(ValueError, match="must end in the name of a folder; got out="):
        Preparation(replace(config, out=Path(out)))


def test_a_preparation_killed_at_its_first_file_goes_on(config, prepare):
    (config.out.with_name("data.partial") / ".settings.json.x1y2z3").mkdir(parents=True)
    assert prepare(config).index["splits"]["train"]["utterances"] == 6


def test_the_advice_to_skip_can_be_followed(config, prepare):
    empty(config.source)
    with pytest.raises(ValueError, match=r"--shards\.on_error skip"):
        prepare(config)
    assert len(prepare(skipping(config)).index["skipped"]) == 1


def test_the_advice_to_raise_the_limit_can_be_followed(config, prepare):
    with pytest.raises(ValueError, match=r"raise --audio\.longest_seconds"):
        prepare(replace(config, audio=AudioConfig(longest_seconds=0.6)))
    assert prepare(config).index["splits"]["train"]["utterances"] == 6


def test_what_a_lower_limit_left_out_is_read_when_it_is_raised(config, prepare, interrupt):
    interrupt(skipping(replace(config, audio=AudioConfig(longest_seconds=0.6))), 8)
    assert prepare(skipping(config)).index["skipped"] == []


def test_what_a_higher_limit_let_in_is_left_out_when_it_is_lowered(config, prepare, interrupt):
    interrupt(skipping(config), 8)
    lower = skipping(replace(config, audio=AudioConfig(longest_seconds=0.6)))
    # Every other utterance lasts 0.75 s.
    assert prepare(lower).index["splits"]["train"]["utterances"] == 3


def test_a_corpus_that_was_mended_in_between_is_read_again(config, prepare):
    empty(config.source, "train-05")
    with pytest.raises(ValueError, match="train-05"):
        prepare(config)
    keep_lines(config.source / "train.jsonl", 2, 3, 4, 5)
    ids = [row["id"] for row in prepare(config).manifest("train")]
    assert ids == ["train-01", "train-02", "train-03", "train-04"]


def test_tokens_are_of_the_text_that_is_there_at_last(config, prepare, interrupt, edit_line):
    interrupt(config, 4)
    edit_line(config.source / "train.jsonl", 1, text="xyz")
    tokenizer = Tokenizer(prepare(config).tokenizer)
    assert tokenizer.decode(tokenizer.encode("xyz")) == "xyz"


def test_a_model_that_is_given_encodes_another_corpus_as_the_first(config, prepare, edit_line):
    first = prepare(config)
    edit_line(config.source / "train.jsonl", 1, text="xyz")
    given = TokenizerConfig(kind="char", model=first.tokenizer)
    second = prepare(replace(config, out=config.out.with_name("second"), tokenizer=given))
    assert second.tokenizer.read_bytes() == first.tokenizer.read_bytes()
    # SentencePiece takes characters that it does not know, side by side, for one.
    assert second.index["splits"]["train"]["unknown_tokens"] == 1


def test_no_shard_of_a_longer_corpus_is_left(config, prepare, interrupt, contents_of):
    interrupt(config, 8)
    keep_lines(config.source / "train.jsonl", 1, 2, 3, 4)
    names = {name for name in contents_of(prepare(config).folder) if name.endswith(".tfrecord")}
    assert names == {f"shards/{split}-00000.tfrecord" for split in ("train", "valid", "test")}


def test_what_a_killed_preparation_left_half_written_is_removed(
    config, prepare, interrupt, contents_of
):
    interrupt(config, 4)
    half = config.out.with_name("data.partial") / "shards" / ".train-00001.tfrecord.x1y2z3"
    half.mkdir()
    (half / "train-00001.tfrecord").write_bytes(b"half")
    assert not [name for name in contents_of(prepare(config).folder) if "x1y2z3" in name]


def test_a_full_disk_is_told_with_the_file_and_what_to_do(config, prepare, no_file_over):
    message = r"shards/train-00000\.tfrecord: must fit on its disk; .*run the same command to go on"
    with no_file_over(20_000), pytest.raises(OSError, match=message):
        prepare(config)
    assert not config.out.exists()


def test_a_preparation_goes_on_when_there_is_space(config, prepare, no_file_over, contents_of):
    whole = prepare(replace(config, out=config.out.with_name("whole")))
    with no_file_over(20_000), pytest.raises(OSError, match="must fit"):
        prepare(config)
    assert contents_of(prepare(config).folder) == contents_of(whole.folder)


def test_the_command_loads_no_tensorflow_before_a_shard_is_written():
    code = "import pipelines.prepare, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
