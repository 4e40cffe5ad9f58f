import dataclasses

import numpy as np
import pytest
from scipy import signal

from tfasr.audio.synthetic import Synthetic
from tfasr.configs.corpora import SyntheticConfig

pytest.importorskip("espeakng_loader", reason="the synthetic corpus is optional")

SMALL = SyntheticConfig(
    close_speakers=2,
    telephone_speakers=2,
    train_sentences=2,
    valid_sentences=1,
    test_sentences=1,
    jobs=2,
)


def utterances_of(config):
    utterances, errors = Synthetic(config).utterances()
    assert errors == []
    return utterances


def share_above(samples, frequency, sample_rate):
    frequencies, power = signal.welch(samples.astype(float), sample_rate, nperseg=512)
    return power[frequencies > frequency].sum() / power.sum()


def test_each_speaker_has_the_sentences_asked_for():
    ids = [utterance.utterance_id for utterance in utterances_of(SMALL)]
    assert ids == [
        *("train-close-00-0000", "train-close-00-0001", "train-close-01-0000"),
        *("train-close-01-0001", "train-telephone-00-0000", "train-telephone-00-0001"),
        *("train-telephone-01-0000", "train-telephone-01-0001"),
        *("valid-close-00-0000", "valid-close-01-0000"),
        *("valid-telephone-00-0000", "valid-telephone-01-0000"),
        *("test-close-00-0000", "test-close-01-0000"),
        *("test-telephone-00-0000", "test-telephone-01-0000"),
    ]


def test_an_utterance_says_where_it_comes_from():
    utterance = utterances_of(SMALL)[4]
    assert (utterance.split, utterance.speaker, utterance.domain, utterance.audio_filepath) == (
        *("train", "telephone-00", "telephone"),
        None,
    )
    assert utterance.origin == "synthetic utterance train-telephone-00-0000"


def test_no_held_out_sentence_is_a_training_sentence_of_anybody():
    texts = {"train": set(), "valid": set(), "test": set()}
    for utterance in utterances_of(SyntheticConfig()):
        texts[utterance.split].add(utterance.text)
    assert not texts["train"] & (texts["valid"] | texts["test"])
    assert not texts["valid"] & texts["test"]


def test_the_largest_corpus_has_96_different_voices_and_shares_none_between_domains():
    config = dataclasses.replace(SMALL, close_speakers=48, telephone_speakers=48)
    voices = Synthetic(config).voices.values()
    assert len({(voice.accent, voice.variant) for voice in voices}) == 96
    for part in ("accent", "variant"):
        close = {getattr(voice, part) for voice in voices if voice.domain == "close"}
        telephone = {getattr(voice, part) for voice in voices if voice.domain == "telephone"}
        assert not close & telephone


def test_more_speakers_leave_the_first_ones_as_they_were():
    more = Synthetic(dataclasses.replace(SMALL, close_speakers=9)).voices
    assert more["close-01"] == Synthetic(SMALL).voices["close-01"]


def test_order_and_number_of_jobs_do_not_change_the_samples():
    utterances = utterances_of(SMALL)
    forwards = list(Synthetic(SMALL).samples(utterances))
    other = Synthetic(dataclasses.replace(SMALL, jobs=1))
    backwards = list(other.samples(utterances[::-1]))
    assert len(forwards) == len(backwards) == 16
    for first, second in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(first, second)


def test_samples_are_int16_speech_of_one_to_four_seconds():
    for samples in Synthetic(SMALL).samples(utterances_of(SMALL)):
        assert samples.dtype == np.int16
        assert 1.0 < len(samples) / SMALL.sample_rate < 4.0
        assert 300 < np.sqrt(np.mean(samples.astype(float) ** 2)) < 4000


def test_the_telephone_has_nothing_above_its_band():
    utterances = [u for u in utterances_of(SMALL) if u.split == "test"]
    shares = {
        utterance.domain: share_above(samples, 4500, SMALL.sample_rate)
        for utterance, samples in zip(utterances, Synthetic(SMALL).samples(utterances), strict=True)
    }
    assert shares["telephone"] < 1e-4
    assert shares["close"] > 10 * shares["telephone"]


def test_the_noise_is_as_loud_as_configured():
    quiet = dataclasses.replace(SMALL, noise_snr=(200.0, 200.0))
    noisy = dataclasses.replace(SMALL, noise_snr=(5.0, 5.0))
    utterances = [u for u in utterances_of(SMALL) if u.domain == "telephone"][:1]
    (speech,) = Synthetic(quiet).samples(utterances)
    (mixed,) = Synthetic(noisy).samples(utterances)
    before_speech = int(0.05 * SMALL.sample_rate)  # the shortest pause
    speech, mixed = speech.astype(float), mixed.astype(float)
    assert not speech[:before_speech].any()
    spoken = np.flatnonzero(speech)
    signal_power = np.mean(speech[spoken[0] : spoken[-1] + 1] ** 2)
    # Both have the level of the speech alone, so what differs is the noise.
    noise_power = np.mean((mixed - speech) ** 2)
    assert 10 * np.log10(signal_power / noise_power) == pytest.approx(5.0, abs=0.3)


def test_the_sample_rate_changes_the_number_of_samples_only():
    utterances = utterances_of(SMALL)[:1]
    (wide,) = Synthetic(SMALL).samples(utterances)
    (narrow,) = Synthetic(dataclasses.replace(SMALL, sample_rate=8000)).samples(utterances)
    assert len(wide) / len(narrow) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 6000}, "sample_rate=6000"),
        ({"close_speakers": 49}, "close_speakers=49"),
        ({"telephone_speakers": -1}, "telephone_speakers=-1"),
        ({"test_sentences": -1}, "test_sentences=-1"),
        ({"noise_snr": (9.0, 3.0)}, r"noise_snr=\(9.0, 3.0\)"),
    ],
)
def test_a_setting_out_of_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**change)


def test_more_sentences_than_the_grammar_has_are_named():
    with pytest.raises(ValueError, match="valid_sentences=999"):
        Synthetic(dataclasses.replace(SMALL, valid_sentences=999)).utterances()
