"""A corpus that needs no recordings: espeak-ng's voices in a quiet room and on the telephone."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal

from tfasr.audio import espeak
from tfasr.audio.sentences import SentenceInventory
from tfasr.audio.utterance import SPLITS, CorpusError, Split, Utterance
from tfasr.configs.corpora import SyntheticConfig
from tfasr.configs.seeds import counted_generator, counted_seed

_CLOSE_SNR = (25.0, 40.0)  # dB
_LEVEL = (-32.0, -20.0)  # of the speech, in dB below full scale
_PAUSE = (0.05, 0.25)  # before and after the speech, in seconds
_PEAK = 0.95  # of full scale


@dataclass(frozen=True, kw_only=True)
class _Domain:
    """What the speakers of one domain have in common.

    The domains share no accent and no variant. Variants that whisper, croak or buzz are in
    neither.

    Args:
        accents: Voices of espeak-ng.
        variants: Variants of those voices.
        low_edge: Lowest and highest lower edge of a speaker's microphone, in hertz.
        high_edge: Lowest and highest upper edge, in hertz.
    """

    accents: tuple[str, ...]
    variants: tuple[str, ...]
    low_edge: tuple[float, float]
    high_edge: tuple[float, float]


_DOMAINS = {
    "close": _Domain(
        accents=("en-us", "en", "en-us-nyc", "en-gb-x-rp"),
        variants=(
            *("m1", "m3", "m4", "m6", "m7", "Alex"),
            *("f1", "f2", "f3", "f5", "Andrea", "Annie"),
        ),
        low_edge=(50.0, 250.0),
        high_edge=(4000.0, 7500.0),
    ),
    "telephone": _Domain(
        accents=("en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
        variants=(
            *("Michael", "Mario", "Denis", "rob", "robert", "victor"),
            *("aunty", "belinda", "f4", "grandma", "linda", "shelby"),
        ),
        low_edge=(300.0, 300.0),
        high_edge=(3400.0, 3400.0),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A pseudo-speaker.

    Args:
        domain: "close" or "telephone".
        accent: A voice of espeak-ng.
        variant: A variant of that voice.
        rate: Words a minute.
        pitch: Base pitch, 0 to 99.
        pitch_range: Liveliness of the pitch, 0 to 99.
        band: What the speaker's microphone passes, in hertz.
    """

    domain: str
    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int
    band: tuple[float, float]


class Synthetic:
    """The corpus of `SyntheticConfig`.

    The samples of an utterance depend on the configuration and its id alone, so any part of
    the corpus may be made anywhere, in any order.

    Args:
        config: Speakers, sentences and noise.

    Raises:
        ModuleNotFoundError: `espeakng_loader` is not installed.
    """

    def __init__(self, config: SyntheticConfig) -> None:
        espeak.require_espeak()
        self._config = config
        self._snr = {"close": _CLOSE_SNR, "telephone": config.noise_snr}
        counts = {"close": config.close_speakers, "telephone": config.telephone_speakers}
        self.voices = {
            f"{domain}-{index:02d}": self._voice(domain, index)
            for domain, count in counts.items()
            for index in range(count)
        }

    def _voice(self, domain: str, index: int) -> Voice:
        settings = _DOMAINS[domain]
        # Accents take turns; within an accent no variant comes twice.
        turn, place = divmod(index, len(settings.accents))
        accent = settings.accents[place]
        order = counted_generator(self._config.seed, "synthetic variants", accent)
        draw = counted_generator(self._config.seed, "synthetic voice", domain, index)
        return Voice(
            domain=domain,
            accent=accent,
            variant=str(order.permutation(settings.variants)[turn]),
            rate=int(draw.integers(150, 190)),
            pitch=int(draw.integers(35, 66)),
            pitch_range=int(draw.integers(35, 66)),
            band=(draw.uniform(*settings.low_edge), draw.uniform(*settings.high_edge)),
        )

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        inventory = SentenceInventory(self._config.seed, self._config.grammar)
        counts: dict[Split, int] = {
            "train": self._config.train_sentences,
            "valid": self._config.valid_sentences,
            "test": self._config.test_sentences,
        }
        utterances = []
        for split in SPLITS:
            for speaker, voice in self.voices.items():
                draw = counted_generator(self._config.seed, "synthetic text", split, speaker)
                for number, text in enumerate(inventory.draw(split, counts[split], draw)):
                    utterance_id = f"{split}-{speaker}-{number:04d}"
                    utterances.append(
                        Utterance(
                            utterance_id=utterance_id,
                            split=split,
                            text=text,
                            speaker=speaker,
                            domain=voice.domain,
                            origin=f"synthetic utterance {utterance_id}",
                        )
                    )
        return utterances, []

    def samples(
        self, utterances: Sequence[Utterance]
    ) -> Iterator[npt.NDArray[np.int16] | CorpusError]:
        speech = espeak.speak(map(self._sentence, utterances), self._config.jobs)
        for utterance, spoken in zip(utterances, speech, strict=True):
            yield _record(
                spoken,
                sample_rate=self._config.sample_rate,
                band=self.voices[utterance.speaker].band,
                snr=self._snr[utterance.domain],
                draw=counted_generator(
                    self._config.seed, "synthetic recording", utterance.utterance_id
                ),
            )

    def _sentence(self, utterance: Utterance) -> espeak.Sentence:
        voice = self.voices[utterance.speaker]
        seed, jitter = counted_seed(self._config.seed, "synthetic speech", utterance.utterance_id)
        return espeak.Sentence(
            sentence_id=utterance.utterance_id,
            text=utterance.text,
            accent=voice.accent,
            variant=voice.variant,
            rate=voice.rate + jitter % 11 - 5,
            pitch=voice.pitch,
            pitch_range=voice.pitch_range,
            seed=seed,
        )


def _record(
    spoken: npt.NDArray[np.int16],
    *,
    sample_rate: int,
    band: tuple[float, float],
    snr: tuple[float, float],
    draw: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """Speaks into a microphone, with noise.

    Args:
        spoken: int16 [T] at espeak-ng's rate.
        sample_rate: Of what is returned, in hertz.
        band: What the microphone passes of speech and noise, in hertz.
        snr: Lowest and highest signal-to-noise ratio, in dB.
        draw: Draws pauses, noise and level.

    Returns:
        int16 [T'].
    """
    common = np.gcd(sample_rate, espeak.SAMPLE_RATE)
    speech = signal.resample_poly(
        spoken / 32768, sample_rate // common, espeak.SAMPLE_RATE // common
    )
    before, after = (draw.uniform(*_PAUSE, size=2) * sample_rate).astype(int)
    noise = draw.standard_normal(before + len(speech) + after)
    # One pole: from white to the low rumble of a street or a fan.
    noise = signal.lfilter([1.0], [1.0, -draw.uniform(0.0, 0.9)], noise)
    sections = _band_pass(band, sample_rate)
    speech, noise = signal.sosfilt(sections, speech), signal.sosfilt(sections, noise)
    noise *= _rms(speech) / _rms(noise) * 10 ** (-draw.uniform(*snr) / 20)
    gain = 10 ** (draw.uniform(*_LEVEL) / 20) / _rms(speech)
    noise[before : before + len(speech)] += speech
    recording = noise * min(gain, _PEAK / np.abs(noise).max())
    return np.asarray(np.round(recording * 32767), np.int16)


@functools.cache
def _band_pass(band: tuple[float, float], sample_rate: int) -> npt.NDArray[np.float64]:
    edges = (band[0], min(band[1], 0.45 * sample_rate))
    sections = signal.butter(6, edges, btype="bandpass", fs=sample_rate, output="sos")
    return np.asarray(sections, np.float64)


def _rms(samples: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(samples**2)))
