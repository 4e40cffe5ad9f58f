import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tfasr.artifacts.files import read_json, read_json_lines, sha256_of
from tfasr.audio.decoding import read_audio, write_wav
from tfasr.configs.corpora import FsddConfig, TokenizerConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.prepare import PrepareConfig
from tfasr.data.shards import parse_record
from tfasr.features.fbank import fbank
from tfasr.preparation.shard_writing import FrameBlocks
from tfasr.text.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DIGITS = set("zero one two three four five six seven eight nine".split())


def skipping(config):
    return replace(config, shards=replace(config.shards, on_error="skip"))


def test_shards_hold_the_audio_and_the_tokens(config, prepare):
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


def test_manifests_name_the_recordings_whole(config, prepare):
    (first, *_) = prepare(config).manifest("test")
    (row, *_) = read_json_lines(config.source / "test.jsonl")
    path = str((config.source / row["audio_filepath"]).resolve())
    assert first == {**row, "audio_filepath": path, "duration": 0.5}


@pytest.mark.parametrize("absolute", [False, True])
def test_recordings_may_be_named_from_the_manifest_or_from_the_root(
    config, prepare, edit_line, absolute
):
    path = config.source / "wav" / "test-00.wav"
    name = str(path) if absolute else "wav/../wav/test-00.wav"
    edit_line(config.source / "test.jsonl", 1, audio_filepath=name)
    assert prepare(config).manifest("test")[0]["audio_filepath"] == str(path.resolve())


def test_a_manifest_of_prepared_data_can_be_prepared_again(config, prepare, tmp_path):
    first = prepare(config)
    again = prepare(replace(config, source=config.out, out=tmp_path / "again"))
    assert again.manifest("train") == first.manifest("train")
    hashes = [[sha256_of(path) for path in data.shards("train")] for data in (first, again)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("length", [16001, 16003])
def test_the_number_of_samples_follows_from_the_duration(config, prepare, length):
    config = replace(config, fbank=replace(config.fbank, sample_rate=16000))
    samples = np.arange(length, dtype=np.int16)
    write_wav(config.source / "wav" / "test-00.wav", samples, 16000)
    seconds = prepare(config).durations("test")[0]
    assert seconds == pytest.approx(length / 16000, abs=1e-6)
    assert round(seconds * 16000) == length


def test_a_segment_keeps_its_place_in_the_recording(config, prepare, edit_line, tmp_path):
    edit_line(config.source / "test.jsonl", 1, offset=0.1, duration=0.3)
    data = prepare(config)
    assert data.manifest("test")[0]["duration"] == 0.3
    again = prepare(replace(config, source=config.out, out=tmp_path / "again"))
    assert again.manifest("test") == data.manifest("test")


@pytest.fixture
def digits(tmp_path):
    """A corpus that makes its audio itself, of recordings of 800 to 809 samples."""
    (tmp_path / "digits").mkdir()
    for digit in range(10):
        samples = np.arange(800 + digit, dtype=np.int16)
        soundfile.write(tmp_path / "digits" / f"{digit}_ada_0.wav", samples, 8000)
    return PrepareConfig(
        corpus="fsdd",
        source=tmp_path / "digits",
        out=tmp_path / "data",
        fsdd=FsddConfig(train_strings=0, valid_strings=0, test_strings=3),
        fbank=FbankConfig(sample_rate=8000, num_mels=8),
    )


def test_audio_that_the_corpus_makes_is_kept_as_wav(digits, prepare):
    data = prepare(digits)
    (row, *_) = data.manifest("test")
    assert row["audio_filepath"] == "audio/test-ada-00000.wav"
    (record, *_) = tf.data.TFRecordDataset([str(path) for path in data.shards("test")])
    samples = read_audio(data.folder / row["audio_filepath"], 8000)
    waveform = parse_record(record)["waveform"]
    np.testing.assert_array_equal(waveform, (samples / 32768).astype(np.float32))


def test_a_full_disk_is_told_with_the_wav_that_did_not_fit(digits, prepare, no_file_over):
    message = r"audio/test-ada-00000\.wav: must fit on its disk"
    with no_file_over(4000), pytest.raises(OSError, match=message):
        prepare(digits)


def statistics_in_numpy(config, rows):
    waveforms = [read_audio(config.source / row["audio_filepath"], 8000) for row in rows]
    frames = np.concatenate([features(samples, config.fbank) for samples in waveforms])
    return len(frames), frames.mean(0), frames.std(0)


def features(samples, config):
    waveform = tf.constant(samples[None] / 32768, tf.float32)
    return fbank(waveform, config)[0].numpy().astype(np.float64)


def test_statistics_are_mean_and_deviation_of_the_training_frames(config, prepare):
    values = read_json(prepare(config).folder / "cmvn.json")
    rows = read_json_lines(config.source / "train.jsonl")
    frames, mean, deviation = statistics_in_numpy(config, rows)
    assert values["frames"] == frames
    np.testing.assert_allclose(values["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(values["deviation"], deviation, rtol=1e-5)


def test_withheld_domains_are_not_learned_from(config, prepare, edit_line):
    edit_line(config.source / "train.jsonl", 2, text="xyz")
    data = prepare(replace(config, shards=replace(config.shards, withheld_domains=("phone",))))
    assert not set("xyz") & set("".join(Tokenizer(data.tokenizer).pieces))
    values = read_json(data.folder / "cmvn.json")
    rows = read_json_lines(config.source / "train.jsonl")
    frames, mean, _ = statistics_in_numpy(config, rows[::2])
    assert values["frames"] == frames
    np.testing.assert_allclose(values["mean"], mean, rtol=1e-5)
    assert data.withheld_domains == ("phone",)


def test_validation_and_test_are_not_learned_from(config, prepare, edit_line):
    for split in ("valid", "test"):
        edit_line(config.source / f"{split}.jsonl", 1, text="xyz")
    assert not set("xyz") & set("".join(Tokenizer(prepare(config).tokenizer).pieces))


def test_data_may_be_for_tests_only(config, prepare):
    data = prepare(replace(config, source=config.source / "test.jsonl"))
    assert not data.tokenizer.exists()
    assert not (data.folder / "cmvn.json").exists()
    assert [row["id"] for row in data.manifest("test")] == ["test-00", "test-01"]
    assert data.manifest("train") == []
    (shard,) = data.shards("test")
    example = parse_record(next(iter(tf.data.TFRecordDataset(str(shard)))))
    assert example["num_tokens"].numpy() == 0


@pytest.mark.parametrize("lengths", [(40_000, 100, 700_000, 201), (199, 200, 8001) * 400])
def test_frames_of_utterances_laid_end_to_end_are_those_of_each(noise, lengths):
    config = FbankConfig(sample_rate=8000, num_mels=4)
    blocks = FrameBlocks(config)
    # A window is 200 samples: what is shorter has no frame.
    utterances = [(3000 * noise(length)).astype(np.int16) for length in lengths]
    for samples in utterances:
        blocks.add(samples)
    distinct = {len(u): features(u, config) for u in {len(u): u for u in utterances}.values()}
    frames = np.concatenate([distinct[length] for length in lengths])
    sums = blocks.sums()
    assert sums.count == len(frames)
    np.testing.assert_allclose(sums.sum, frames.sum(0), rtol=1e-5)
    np.testing.assert_allclose(sums.squares, (frames**2).sum(0), rtol=1e-5)


def corrupt(wav, manifest):
    wav.write_bytes(wav.read_bytes()[:1000])


def fill_with_garbage(wav, manifest):
    wav.write_bytes(b"no audio at all")


def empty(wav, manifest):
    wav.write_bytes(b"")


def without_samples(wav, manifest):
    soundfile.write(wav, np.zeros(0, np.int16), 8000)


def with_nan(wav, manifest):
    soundfile.write(wav, np.array([0, np.nan], np.float32), 8000, subtype="FLOAT")


def lose(wav, manifest):
    wav.unlink()


def rewrite_the_line(manifest, **changes):
    lines = manifest.read_text().splitlines()
    row = {**json.loads(lines[1]), **changes}
    lines[1] = json.dumps({k: v for k, v in row.items() if v is not None})
    manifest.write_text("\n".join(lines))


def take_out_the_text(wav, manifest):
    rewrite_the_line(manifest, text=None)


def normalise_to_nothing(wav, manifest):
    rewrite_the_line(manifest, text="\N{NO-BREAK SPACE}")


def name_twice(wav, manifest):
    rewrite_the_line(manifest, id="train-00")


def break_the_json(wav, manifest):
    lines = manifest.read_text().splitlines()
    lines[1] = lines[1][:-5]
    manifest.write_text("\n".join(lines))


BAD = [
    (corrupt, r"train\.jsonl:2: .*train-01\.wav: must not be cut short"),
    (fill_with_garbage, r"train\.jsonl:2: .*train-01\.wav: must be audio that libsndfile reads"),
    (empty, r"train\.jsonl:2: .*train-01\.wav: must not be empty"),
    (without_samples, r"train\.jsonl:2: .*train-01\.wav: must hold at least one sample"),
    (with_nan, r"train\.jsonl:2: .*train-01\.wav: samples must be finite"),
    (lose, r"train\.jsonl:2: 'audio_filepath' must be a file; there is no .*train-01\.wav"),
    (take_out_the_text, r"train\.jsonl:2: must have 'text'"),
    (normalise_to_nothing, r"train\.jsonl:2: 'text' must not be empty"),
    (name_twice, r"train\.jsonl:2: an id must be given once; train-00"),
    (break_the_json, r"train\.jsonl:2: must be JSON"),
]


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_a_bad_entry_is_named_and_nothing_is_made(config, prepare, damage, message):
    damage(config.source / "wav" / "train-01.wav", config.source / "train.jsonl")
    with pytest.raises(ValueError, match=message):
        prepare(config)
    assert not config.out.exists()


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_a_bad_entry_is_named_counted_and_skipped_on_request(config, prepare, damage, message):
    damage(config.source / "wav" / "train-01.wav", config.source / "train.jsonl")
    data = prepare(skipping(config))
    (reason,) = data.index["skipped"]
    with pytest.raises(ValueError, match=message):
        raise ValueError(reason)
    kept = ["train-00", "train-02", "train-03", "train-04", "train-05"]
    assert [row["id"] for row in data.manifest("train")] == kept
    assert data.index["splits"]["train"]["utterances"] == 5


@pytest.mark.skipif(not (SHARED / "fsdd").is_dir(), reason="needs ../shared/data/fsdd")
def test_recorded_digits_are_prepared(prepare, tmp_path):
    config = PrepareConfig(
        corpus="fsdd",
        source=SHARED / "fsdd",
        out=tmp_path / "data",
        fsdd=FsddConfig(train_strings=6, valid_strings=2, test_strings=2),
        fbank=FbankConfig(sample_rate=8000, num_mels=40),
        tokenizer=TokenizerConfig(kind="char"),
    )
    data = prepare(config)
    assert len(data.durations("train")) == 6
    samples = [round(8000 * seconds) for seconds in data.durations("train")]
    # Windows of 200 samples that start 80 apart.
    frames = sum(1 + (number - 200) // 80 for number in samples)
    assert read_json(data.folder / "cmvn.json")["frames"] == frames
    assert all(set(row["text"].split()) <= DIGITS for row in data.manifest("test"))


@pytest.mark.skipif(
    not (SHARED / "LibriSpeech").is_dir(), reason="needs ../shared/data/LibriSpeech"
)
def test_recorded_librispeech_is_prepared(prepare, tmp_path):
    chapter = "test-other/2414/128291"
    source = tmp_path / "LibriSpeech"
    shutil.copytree(SHARED / "LibriSpeech" / chapter, source / chapter)
    data = prepare(PrepareConfig(corpus="librispeech", source=source, out=tmp_path / "data"))
    texts = (source / chapter / "2414-128291.trans.txt").read_text().splitlines()
    expected = {line.split(" ", 1)[0]: line.split(" ", 1)[1].lower() for line in texts}
    assert {row["id"]: row["text"] for row in data.manifest("test")} == expected
