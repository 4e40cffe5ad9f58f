import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfasr.artifacts.files import read_json, read_json_lines, sha256_of
from tfasr.audio.decoding import read_audio
from tfasr.audio.fsdd import Fsdd
from tfasr.audio.librispeech import LibriSpeech
from tfasr.audio.manifest import Manifest
from tfasr.audio.utterance import Utterance
from tfasr.configs.corpora import FsddConfig, LibriSpeechConfig, TokenizerConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.data.preparation import Preparation
from tfasr.data.prepared import PreparedData
from tfasr.data.shards import parse_record
from tfasr.features.fbank import fbank
from tfasr.text.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DIGITS = set("zero one two three four five six seven eight nine".split())


@pytest.fixture
def corpus(write_corpus, tmp_path):
    """Six training, two validation and two test utterances, four a shard."""
    return write_corpus(tmp_path / "corpus", train=6, valid=2, test=2)


@pytest.fixture
def config(prepare_config, corpus, tmp_path):
    return prepare_config(corpus, tmp_path / "data")


def prepare(config, corpus=None):
    corpus = corpus or Manifest(config.source, config.fbank.sample_rate)
    Preparation(corpus, config).run(lambda done, total: None)
    return PreparedData(config.out)


def skipping(config):
    return replace(config, shards=replace(config.shards, on_error="skip"))


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def edit_line(path, number, **changes):
    """Changes fields of a line, counted from 1; None takes a field out."""
    lines = path.read_text().splitlines()
    row = {**json.loads(lines[number - 1]), **changes}
    lines[number - 1] = json.dumps({k: v for k, v in row.items() if v is not None})
    path.write_text("\n".join(lines) + "\n")


def test_all_files_are_written(config):
    prepare(config)
    assert files_of(config.out) == {
        *("data.json", "settings.json", "cmvn.json", "tokenizer.model"),
        *("train.jsonl", "valid.jsonl", "test.jsonl"),
        *("shards/train-00000.tfrecord", "shards/train-00001.tfrecord"),
        *("shards/valid-00000.tfrecord", "shards/test-00000.tfrecord"),
    }
    assert not config.out.with_name("data.partial").exists()


def test_everything_is_counted(config):
    index = prepare(config).index
    assert index["skipped"] == []
    assert {name: split["utterances"] for name, split in index["splits"].items()} == {
        "train": 6,
        "valid": 2,
        "test": 2,
    }
    assert index["splits"]["train"]["seconds"] == 3.75
    for split in index["splits"].values():
        for shard in split["shards"]:
            assert shard["sha256"] == sha256_of(config.out / shard["file"])


def test_shards_hold_the_audio_and_the_tokens(config):
    data = prepare(config)
    tokenizer = Tokenizer(data.tokenizer)
    records = tf.data.TFRecordDataset([str(path) for path in data.shards("train")])
    rows = read_json_lines(config.source / "train.jsonl")
    for number, (row, record) in enumerate(zip(rows, records, strict=True)):
        example = parse_record(record)
        samples = read_audio(config.source / row["audio_filepath"], 8000)
        np.testing.assert_array_equal(example["waveform"], (samples / 32768).astype(np.float32))
        assert tokenizer.decode(example["tokens"].numpy().tolist()) == row["text"]
        assert int(example["number"]) == number
        assert example["id"].numpy().decode() == row["id"]
        assert example["speaker"].numpy().decode() == row["speaker"]


def test_manifests_name_the_recordings_whole(config):
    (first, *_) = prepare(config).manifest("test")
    (row, *_) = read_json_lines(config.source / "test.jsonl")
    path = str((config.source / row["audio_filepath"]).resolve())
    assert first == {**row, "audio_filepath": path, "duration": 0.5}


@pytest.mark.parametrize("absolute", [False, True])
def test_recordings_may_be_named_from_the_manifest_or_from_the_root(config, absolute):
    path = config.source / "wav" / "test-00.wav"
    name = str(path) if absolute else "wav/../wav/test-00.wav"
    edit_line(config.source / "test.jsonl", 1, audio_filepath=name)
    assert prepare(config).manifest("test")[0]["audio_filepath"] == str(path.resolve())


def test_a_manifest_of_prepared_data_can_be_prepared_again(config, tmp_path):
    first = prepare(config)
    again = prepare(replace(config, source=config.out, out=tmp_path / "again"))
    assert again.manifest("train") == first.manifest("train")
    for name in ("train-00000", "train-00001"):
        ours, theirs = (d.folder / "shards" / f"{name}.tfrecord" for d in (first, again))
        assert sha256_of(ours) == sha256_of(theirs)


class Tones:
    """A corpus that makes its audio itself."""

    def utterances(self):
        return [Utterance(utterance_id="t1", split="test", text="Ah")], []

    def samples(self, utterances):
        return (np.arange(2000, dtype=np.int16) for _ in utterances)


def test_audio_that_the_corpus_makes_is_kept_as_wav(config):
    data = prepare(config, Tones())
    (row,) = data.manifest("test")
    assert row["audio_filepath"] == "audio/t1.wav"
    assert row["text"] == "ah"
    samples = read_audio(data.folder / "audio/t1.wav", 8000)
    np.testing.assert_array_equal(samples, np.arange(2000))


def statistics_in_numpy(config, rows):
    waveforms = [read_audio(config.source / row["audio_filepath"], 8000) for row in rows]
    frames = np.concatenate(
        [
            fbank(tf.constant(samples[None] / 32768, tf.float32), config.fbank)[0].numpy()
            for samples in waveforms
        ]
    ).astype(np.float64)
    return len(frames), frames.mean(0), frames.std(0)


def test_statistics_are_mean_and_deviation_of_the_training_frames(config):
    values = read_json(prepare(config).folder / "cmvn.json")
    rows = read_json_lines(config.source / "train.jsonl")
    frames, mean, deviation = statistics_in_numpy(config, rows)
    assert values["frames"] == frames
    np.testing.assert_allclose(values["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(values["deviation"], deviation, rtol=1e-5)


def test_a_bin_that_never_varies_is_not_blown_up(config):
    for path in (config.source / "wav").iterdir():
        soundfile.write(path, np.zeros(4000, np.int16), 8000)
    assert prepare(config).statistics.deviation == (0.01,) * 8


def test_withheld_domains_are_not_learned_from(config):
    edit_line(config.source / "train.jsonl", 2, text="xyz")
    data = prepare(replace(config, shards=replace(config.shards, withheld_domains=("phone",))))
    assert not set("xyz") & set("".join(Tokenizer(data.tokenizer).pieces))
    values = read_json(data.folder / "cmvn.json")
    frames, mean, _ = statistics_in_numpy(
        config, read_json_lines(config.source / "train.jsonl")[::2]
    )
    assert values["frames"] == frames
    np.testing.assert_allclose(values["mean"], mean, rtol=1e-5)
    assert data.withheld_domains == ("phone",)
    assert len(data.durations("train", ("phone",))) == 3


def test_validation_and_test_are_not_learned_from(config):
    for split in ("valid", "test"):
        edit_line(config.source / f"{split}.jsonl", 1, text="xyz")
    assert not set("xyz") & set("".join(Tokenizer(prepare(config).tokenizer).pieces))


def test_data_may_be_for_tests_only(config):
    data = prepare(replace(config, source=config.source / "test.jsonl"))
    assert not data.tokenizer.exists()
    assert not (data.folder / "cmvn.json").exists()
    assert [row["id"] for row in data.manifest("test")] == ["test-00", "test-01"]
    assert data.manifest("train") == []
    (shard,) = data.shards("test")
    example = parse_record(next(iter(tf.data.TFRecordDataset(str(shard)))))
    assert example["num_tokens"].numpy() == 0


def corrupt(source):
    wav = (source / "wav" / "train-01.wav").read_bytes()
    (source / "wav" / "train-01.wav").write_bytes(wav[:1000])


def fill_with_garbage(source):
    (source / "wav" / "train-01.wav").write_bytes(b"no audio at all")


def empty(source):
    (source / "wav" / "train-01.wav").write_bytes(b"")


def without_samples(source):
    soundfile.write(source / "wav" / "train-01.wav", np.zeros(0, np.int16), 8000)


def lose(source):
    (source / "wav" / "train-01.wav").unlink()


def take_out_the_audio(source):
    edit_line(source / "train.jsonl", 2, audio_filepath=None)


def take_out_the_text(source):
    edit_line(source / "train.jsonl", 2, text=None)


def normalise_to_nothing(source):
    edit_line(source / "train.jsonl", 2, text="\N{NO-BREAK SPACE}")


def name_twice(source):
    edit_line(source / "train.jsonl", 2, id="train-00")


def break_the_json(source):
    lines = (source / "train.jsonl").read_text().splitlines()
    lines[1] = lines[1][:-5]
    (source / "train.jsonl").write_text("\n".join(lines))


BAD_AUDIO = [
    (corrupt, r"train-01\.wav: must not be cut short"),
    (fill_with_garbage, r"train-01\.wav: must be audio that libsndfile reads"),
    (empty, r"train-01\.wav: must not be empty"),
    (without_samples, r"train-01\.wav: must hold at least one sample"),
]
BAD_LINES = [
    (lose, r"train\.jsonl:2: 'audio_filepath' must be a file; there is no .*train-01\.wav"),
    (take_out_the_audio, r"train\.jsonl:2: must have 'audio_filepath'"),
    (take_out_the_text, r"train\.jsonl:2: must have 'text'"),
    (normalise_to_nothing, r"train\.jsonl:2: 'text' must not be empty"),
    (name_twice, r"train\.jsonl:2: an id must be given once; train-00"),
    (break_the_json, r"train\.jsonl:2: must be JSON"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_AUDIO + BAD_LINES)
def test_a_bad_entry_is_named_and_nothing_is_made(config, damage, message):
    damage(config.source)
    with pytest.raises(ValueError, match=message):
        prepare(config)
    assert not config.out.exists()


@pytest.mark.parametrize(("damage", "message"), BAD_AUDIO + BAD_LINES)
def test_a_bad_entry_is_named_counted_and_skipped_on_request(config, damage, message):
    damage(config.source)
    data = prepare(skipping(config))
    (reason,) = data.index["skipped"]
    with pytest.raises(ValueError, match=message):
        raise ValueError(reason)
    kept = ["train-00", "train-02", "train-03", "train-04", "train-05"]
    assert [row["id"] for row in data.manifest("train")] == kept
    assert data.index["splits"]["train"]["utterances"] == 5


def test_unusable_audio_is_named_with_its_line(config):
    empty(config.source)
    with pytest.raises(ValueError, match=r"train\.jsonl:2: .*train-01\.wav"):
        prepare(config)


def test_a_corpus_of_which_nothing_is_usable_is_refused(config):
    (config.source / "train.jsonl").write_text("{}\n")
    (config.source / "valid.jsonl").unlink()
    (config.source / "test.jsonl").unlink()
    with pytest.raises(ValueError, match="corpus: holds no usable utterance"):
        prepare(skipping(config))


class Interrupted:
    """A corpus whose audio ends after so many utterances."""

    def __init__(self, corpus, after, error):
        self.corpus, self.left, self.error = corpus, after, error

    def utterances(self):
        return self.corpus.utterances()

    def samples(self, utterances):
        for samples in self.corpus.samples(utterances):
            if not self.left:
                raise self.error
            self.left -= 1
            yield samples


@pytest.mark.parametrize(
    ("after", "error"), [(0, OSError()), (3, KeyboardInterrupt()), (4, OSError()), (7, OSError())]
)
def test_an_interrupted_preparation_ends_as_an_uninterrupted_one(config, tmp_path, after, error):
    expected = prepare(replace(config, out=tmp_path / "whole")).folder
    healthy = Manifest(config.source, 8000)
    with pytest.raises(type(error)):
        prepare(config, Interrupted(healthy, after, error))
    assert not config.out.exists()
    prepare(config, healthy)
    assert files_of(config.out) == files_of(expected)
    for name in files_of(expected):
        assert (config.out / name).read_bytes() == (expected / name).read_bytes(), name


def test_a_resumed_preparation_reads_no_audio_twice(config):
    healthy = Manifest(config.source, 8000)
    with pytest.raises(RuntimeError):
        prepare(config, Interrupted(healthy, 4, RuntimeError()))
    # The first shard holds four of the ten utterances.
    prepare(config, Interrupted(healthy, 6, RuntimeError()))


def test_a_preparation_that_is_done_says_so(config):
    preparation = Preparation(Manifest(config.source, 8000), config)
    assert not preparation.is_done
    preparation.run(lambda done, total: None)
    assert Preparation(Manifest(config.source, 8000), config).is_done


def test_utterances_are_reported_as_they_are_done(config):
    calls = []
    Preparation(Manifest(config.source, 8000), config).run(
        lambda done, total: calls.append((done, total))
    )
    assert calls == [(4, 10), (6, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("interrupted", [False, True])
def test_other_settings_are_refused_by_name(config, interrupted):
    if interrupted:
        with pytest.raises(RuntimeError):
            prepare(config, Interrupted(Manifest(config.source, 8000), 5, RuntimeError()))
    else:
        prepare(config)
    other = replace(config, fbank=FbankConfig(sample_rate=8000, num_mels=9))
    with pytest.raises(ValueError, match=r"data(\.partial)?: was made with another fbank; choose"):
        Preparation(Manifest(config.source, 8000), other)


def test_a_folder_of_something_else_is_refused(config):
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("do not touch")
    with pytest.raises(ValueError, match="data: exists and is no prepared data"):
        Preparation(Manifest(config.source, 8000), config)
    assert files_of(config.out) == {"thesis.txt"}


def test_the_advice_of_an_error_can_be_followed(config):
    empty(config.source)
    with pytest.raises(ValueError, match=r"--shards\.on_error skip"):
        prepare(config)
    assert len(prepare(skipping(config)).index["skipped"]) == 1


def test_a_corpus_that_was_mended_in_between_is_read_again(config):
    (config.source / "wav" / "train-05.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="train-05"):
        prepare(config)
    lines = (config.source / "train.jsonl").read_text().splitlines()
    (config.source / "train.jsonl").write_text("\n".join([*lines[1:5], ""]))
    ids = [row["id"] for row in prepare(config).manifest("train")]
    assert ids == ["train-01", "train-02", "train-03", "train-04"]


def test_tokens_are_of_the_text_that_is_there_at_last(config):
    good = (config.source / "wav" / "valid-00.wav").read_bytes()
    (config.source / "wav" / "valid-00.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="valid-00"):
        prepare(config)
    (config.source / "wav" / "valid-00.wav").write_bytes(good)
    edit_line(config.source / "train.jsonl", 1, text="xyz")
    tokenizer = Tokenizer(prepare(config).tokenizer)
    assert tokenizer.decode(tokenizer.encode("xyz")) == "xyz"


def test_no_shard_of_a_longer_corpus_is_left(config):
    (config.source / "wav" / "valid-00.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="valid-00"):
        prepare(config)
    (config.source / "valid.jsonl").unlink()
    lines = (config.source / "train.jsonl").read_text().splitlines()
    (config.source / "train.jsonl").write_text("\n".join(lines[:4]))
    prepare(config)
    assert {name for name in files_of(config.out) if name.endswith(".tfrecord")} == {
        "shards/train-00000.tfrecord",
        "shards/test-00000.tfrecord",
    }


def test_a_segment_keeps_its_place_in_the_recording(config, tmp_path):
    edit_line(config.source / "test.jsonl", 1, offset=0.1, duration=0.3)
    data = prepare(config)
    assert data.manifest("test")[0]["duration"] == 0.3
    again = prepare(replace(config, source=config.out, out=tmp_path / "again"))
    assert again.manifest("test") == data.manifest("test")


def test_what_a_killed_preparation_left_half_written_is_removed(config):
    with pytest.raises(RuntimeError):
        prepare(config, Interrupted(Manifest(config.source, 8000), 5, RuntimeError()))
    half = config.out.with_name("data.partial") / "shards" / ".train-00001.tfrecord.x1y2z3"
    half.mkdir()
    (half / "train-00001.tfrecord").write_bytes(b"half")
    prepare(config)
    assert not [name for name in files_of(config.out) if "x1y2z3" in name]


@pytest.mark.skipif(not (SHARED / "fsdd").is_dir(), reason="needs ../shared/data/fsdd")
def test_recorded_digits_are_prepared(tmp_path):
    fsdd = FsddConfig(train_strings=6, valid_strings=2, test_strings=2)
    config = PrepareConfig(
        corpus="fsdd",
        source=SHARED / "fsdd",
        out=tmp_path / "data",
        fsdd=fsdd,
        fbank=FbankConfig(sample_rate=8000, num_mels=40),
        tokenizer=TokenizerConfig(kind="char"),
    )
    data = prepare(config, Fsdd(fsdd, SHARED / "fsdd", 8000))
    assert len(data.durations("train")) == 6
    samples = [round(8000 * seconds) for seconds in data.durations("train")]
    # Windows of 200 samples that start 80 apart.
    frames = sum(1 + (number - 200) // 80 for number in samples)
    assert read_json(data.folder / "cmvn.json")["frames"] == frames
    assert all(set(row["text"].split()) <= DIGITS for row in data.manifest("test"))


@pytest.mark.skipif(
    not (SHARED / "LibriSpeech").is_dir(), reason="needs ../shared/data/LibriSpeech"
)
def test_recorded_librispeech_is_prepared(tmp_path):
    chapter = "test-other/2414/128291"
    source = tmp_path / "LibriSpeech"
    shutil.copytree(SHARED / "LibriSpeech" / chapter, source / chapter)
    librispeech = LibriSpeechConfig(train=(), test=("test-other",), valid_share=0.0)
    config = PrepareConfig(
        corpus="librispeech", source=source, out=tmp_path / "data", librispeech=librispeech
    )
    data = prepare(config, LibriSpeech(librispeech, source, 16000))
    texts = (source / chapter / "2414-128291.trans.txt").read_text().splitlines()
    expected = {line.split(" ", 1)[0]: line.split(" ", 1)[1].lower() for line in texts}
    assert {row["id"]: row["text"] for row in data.manifest("test")} == expected
