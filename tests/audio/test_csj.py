from pathlib import Path

import numpy as np
import pytest

from tfasr.audio.csj import Csj, plain_japanese
from tfasr.audio.decoding import write_wav
from tfasr.audio.espeak import SAMPLE_RATE, Sentence, speak
from tfasr.audio.reading import AudioReader
from tfasr.audio.utterance import Segment
from tfasr.configs.corpora import KaldiConfig, TokenizerConfig
from tfasr.text.normalizer import normalise
from tfasr.text.tokenizer import Tokenizer, train_tokenizer

RATE = 16000
PAUSE = 0.3  # Between utterances, in seconds.


def wide(text: str) -> str:
    """Full-width letters, digits and marks, as CSJ has them."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


# What is said, and its transcript as the Kaldi recipe writes it.
TALKS = {
    "A01F0055": [
        ("えーと", "えーと+感動詞 <sp>"),
        ("きょうはいいてんき", "今日+名詞 は+助詞/係助詞 いい+形容詞/連体形 天気+名詞"),
    ],
    "S00M0071": [
        ("でいきます", "で+接続詞 <sp> 行き+動詞/カ行五段/連用形 ます+助動詞/終止形"),
        ("にせんよねんのはる", f"{wide('2004')}+名詞 年+名詞 の+助詞/格助詞 春+名詞"),
    ],
}
PLAIN = ["えーと", "今日はいい天気", "で行きます", f"{wide('2004')}年の春"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("で+接続詞 あの+感動詞", "であの"),
        ("行き+動詞/カ行五段/連用形 <sp> ます+助動詞", "行きます"),
        ("<sp> はい+感動詞 <unk>", "はい"),
        ("<unk>+名詞 はい", "はい"),
        ("<sp>", ""),
        ("時 々 ー ・ \u3007 ｱｲ ｳ 𠮷 野", "時々ー・\u3007ｱｲｳ𠮷野"),
        ("東京\u3000タワー", "東京タワー"),
        ("web server", "web server"),
        ("この web server の 話", "このweb serverの話"),
        (f"{wide('web')}+名詞 {wide('server')}+名詞", f"{wide('web')} {wide('server')}"),
        (f"{wide('2')}+名詞 {wide('0')}+名詞 年+名詞", f"{wide('20')}年"),
        ("c++ は", "c++は"),
        ("c++++名詞 は+助詞", "c+++は"),
    ],
)
def test_words_are_joined_as_japanese_is_written(text, plain):
    assert plain_japanese(text) == plain


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" ".join(f"{wide(digit)}+名詞" for digit in "2004") + " 年+名詞", "2004年"),
        (f"{wide('CD')}+名詞 を+助詞", "cdを"),
        (f"{wide('web')}+名詞 {wide('server')}+名詞 です+助動詞", "web serverです"),
        ("ｶﾞ ｷﾞ", "ガギ"),
        ("三 ㎞ です", "三kmです"),
        (f"百 {wide('%')} {wide('!')}", "百%!"),
    ],
)
def test_joined_and_normalised_text_reads_well(text, normal):
    assert normalise(plain_japanese(text)) == normal


def write_folder(folder: Path, talk: str, parts: list[np.ndarray]) -> None:
    """A data folder like the recipe's: one recording, segments named by talk and milliseconds."""
    folder.mkdir(parents=True)
    gap = np.zeros(round(PAUSE * SAMPLE_RATE), np.int16)
    wav = folder / f"{talk}.wav"
    write_wav(wav, np.concatenate([piece for part in parts for piece in (part, gap)]), SAMPLE_RATE)
    segments, texts, speakers, start = [], [], [], 0.0
    for (_, transcript), part in zip(TALKS[talk], parts, strict=True):
        end = start + len(part) / SAMPLE_RATE
        name = f"{talk}_{int(1000 * start):07d}_{int(1000 * end):07d}"
        segments.append(f"{name} {talk} {start:.3f} {end:.3f}\n")
        texts.append(f"{name} {transcript}\n")
        speakers.append(f"{name} {talk}\n")
        start = end + PAUSE
    (folder / "wav.scp").write_text(f"{talk} cat {wav} |\n")
    (folder / "segments").write_text("".join(segments))
    (folder / "text").write_text("".join(texts), encoding="utf-8")
    (folder / "utt2spk").write_text("".join(speakers))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two talks of two utterances each, in train_dev and train_nodev."""
    pytest.importorskip("espeakng_loader", reason="the synthetic voice is optional")
    sentences = [
        Sentence(sentence_id=f"{talk}-{number}", text=said, accent="ja", variant="f2", seed=1)
        for talk, utterances in TALKS.items()
        for number, (said, _) in enumerate(utterances)
    ]
    spoken = list(speak(sentences, jobs=1))
    data = tmp_path_factory.mktemp("csj") / "data"
    for place, (talk, parts) in zip(
        ("train_nodev", "train_dev"), zip(TALKS, (spoken[:2], spoken[2:]), strict=True), strict=True
    ):
        write_folder(data / place, talk, parts)
    return data


def corpus(source: Path, *subsets: str) -> Csj:
    return Csj(KaldiConfig(), subsets, source, AudioReader(sample_rate=RATE))


def test_the_recipes_folders_are_listed_with_plain_text(source):
    listed, errors = corpus(source, "train_nodev", "train_dev").utterances()
    assert not errors
    assert [entry.text for entry in listed] == PLAIN
    assert [entry.split for entry in listed] == ["train", "train", "valid", "valid"]
    assert [entry.speaker for entry in listed] == ["A01F0055"] * 2 + ["S00M0071"] * 2
    assert {entry.domain for entry in listed} == {"train_nodev", "train_dev"}


def test_segments_of_a_talk_are_read(source):
    reader = corpus(source)
    listed, _ = reader.utterances()
    for utterance, samples in zip(listed, reader.samples(listed), strict=True):
        assert isinstance(utterance, Segment)
        assert isinstance(samples, np.ndarray)
        # Times in the table are rounded to a millisecond, which is 16 samples.
        assert abs(len(samples) - utterance.duration * RATE) <= 16
        assert np.abs(samples[len(samples) // 4 :]).max() > 1000


@pytest.mark.parametrize(("kind", "vocabulary"), [("char", 100), ("bpe", 45)])
def test_text_comes_back_from_its_tokens(source, tmp_path, kind, vocabulary):
    listed, _ = corpus(source).utterances()
    texts = [normalise(entry.text) for entry in listed] + ["web serverの話", "web server"]
    config = TokenizerConfig(kind=kind, vocabulary=vocabulary)
    train_tokenizer(texts, config, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


def test_a_transcript_of_tags_only_is_named(tmp_path):
    write_wav(tmp_path / "a.wav", np.ones(100, np.int16), RATE)
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    (tmp_path / "text").write_text("a <sp> <unk>\n")
    listed, (error,) = corpus(tmp_path).utterances()
    assert not listed
    assert str(error).startswith(f"{tmp_path / 'text'}:1: a transcript must have words; a has ")
