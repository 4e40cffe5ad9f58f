"""When a stream's tokens come, and which words of its partial results do not stay."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from statistics import mean

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.listening import Heard, Listener
from tfasr.audio.utterance import Split
from tfasr.data.pipelines import every_example
from tfasr.data.prepared import PreparedData
from tfasr.decoding.hypotheses import best_tokens
from tfasr.decoding.prefix_beam import prefix_beam_search
from tfasr.evaluation.search import Heard as HeardWhole
from tfasr.training.run import Run

_BEAM = 10


@dataclass(frozen=True, eq=False)
class Spoken:
    """An utterance, and the seconds between which each of its tokens is aligned.

    Args:
        waveform: [N] float32.
        tokens: [U].
        starts: [U]; negative where nothing can be aligned.
        ends: [U].
    """

    waveform: NDArray[np.float32]
    tokens: list[int]
    starts: list[float]
    ends: list[float]


def aligned_utterances(run: Run, data: PreparedData, split: Split) -> Iterator[Spoken]:
    """Yields the utterances of a split, aligned by the model that hears them whole."""
    whole = run.recogniser(run.trained_model(chunk=0))

    @tf.function(
        input_signature=[tf.TensorSpec([1, None]), tf.TensorSpec([1, None], tf.int32)],
        autograph=False,
    )
    def align(waveform: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, num_frames = run.extractor(waveform, tf.shape(waveform)[1:])
        alignment = HeardWhole(whole, features, num_frames).align(tokens, tf.shape(tokens)[1:])
        return alignment.first[0], alignment.last[0]

    seconds = whole.seconds_per_frame
    durations = data.durations(split)
    with data.reading():
        for example in every_example(
            data.source(split), durations, (), run.extractor.fbank.sample_rate
        ):
            first, last = align(example["waveform"][None], example["tokens"][None])
            yield Spoken(
                example["waveform"].numpy(),
                example["tokens"].numpy().tolist(),
                (seconds * first.numpy()).tolist(),
                (seconds * (last.numpy() + 1)).tolist(),
            )


@dataclass(frozen=True, eq=False)
class Stream:
    """What was heard, chunk by chunk.

    Args:
        heard: What each chunk gave.
        arrivals: Seconds of audio that were there when it could be heard.
    """

    heard: list[Heard]
    arrivals: list[float]

    @property
    def tokens(self) -> list[int]:
        """All that were emitted."""
        return [token for each in self.heard for token in each.tokens]

    @property
    def times(self) -> list[float]:
        """Seconds of audio that were there when each token was emitted."""
        pairs = zip(self.heard, self.arrivals, strict=True)
        return [arrival for each, arrival in pairs for _ in each.tokens]

    def greedy_partials(self) -> list[list[int]]:
        """The tokens so far, after each chunk."""
        tokens: list[int] = []
        return [tokens := tokens + each.tokens for each in self.heard]


def listen(listener: Listener, waveform: NDArray[np.float32]) -> Stream:
    """Has a listener hear an utterance, each chunk as soon as its audio is there."""
    listener.restart()
    arrivals = listener.arrivals(len(waveform))
    stream = Stream([], [])
    for samples, piece in zip(
        [*arrivals, len(waveform)], np.split(waveform, arrivals), strict=True
    ):
        heard = listener.hear(piece)
        if samples == len(waveform):
            heard += listener.finish()
        stream.heard.extend(heard)
        stream.arrivals.extend([samples / listener.fbank.sample_rate] * len(heard))
    return stream


@dataclass(frozen=True)
class Delays:
    """Seconds from the alignment of tokens to their emission.

    Args:
        from_ends: Of each utterance, its tokens' from where they end.
        from_starts: The first tokens' from where they start.
    """

    from_ends: list[list[float]]
    from_starts: list[float]

    def figures(self) -> dict[str, float]:
        """Milliseconds: means, and what nine tenths of the first tokens stay within."""
        first = [delays[0] for delays in self.from_ends]
        every = [delay for delays in self.from_ends for delay in delays]
        return {
            "first_token_delay_ms": 1000 * mean(first),
            "first_token_delay_90_ms": 1000 * float(np.percentile(first, 90)),
            "first_token_delay_from_start_ms": 1000 * mean(self.from_starts),
            "token_delay_ms": 1000 * mean(every),
        }


def delays_of(spoken: Sequence[Spoken], streams: Sequence[Stream]) -> Delays:
    """Compares with the alignment whatever was heard without an error.

    Raises:
        ValueError: Nothing was.
    """
    delays = Delays([], [])
    for each, stream in zip(spoken, streams, strict=True):
        times = stream.times
        if stream.tokens == each.tokens and times and each.starts[0] >= 0:
            pairs = zip(times, each.ends, strict=True)
            delays.from_ends.append([time - end for time, end in pairs])
            delays.from_starts.append(times[0] - each.starts[0])
    if not delays.from_ends:
        raise ValueError(
            "delays need utterances that are heard without an error; "
            f"got none of {len(spoken)}, train the run for longer"
        )
    return delays


def beam_partials() -> Callable[[Stream], list[list[int]]]:
    """Makes the search, after each chunk anew, of CTC's best prefix so far."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )
    def search(log_probs: tf.Tensor, ends: tf.Tensor) -> tf.RaggedTensor:
        repeated = tf.tile(log_probs[None], [tf.size(ends), 1, 1])
        return best_tokens(prefix_beam_search(repeated, ends, beam=_BEAM, token_beam=_BEAM))

    def partials(stream: Stream) -> list[list[int]]:
        if not stream.heard:
            return []
        ends = np.cumsum([len(each.log_probs) for each in stream.heard])
        log_probs = np.concatenate([each.log_probs for each in stream.heard])
        found: list[list[int]] = search(log_probs, ends.astype(np.int32)).to_list()
        return found

    return partials


@dataclass(frozen=True)
class Stability:
    """What became of the words of partial results.

    Args:
        shown: Words, counted when they first appear in their place.
        grown: Those that a later result went on with, as "four" with "fourteen".
        retracted: Those in whose place a later result had another word, or none.
    """

    shown: int = 0
    grown: int = 0
    retracted: int = 0

    def __add__(self, other: "Stability") -> "Stability":
        return Stability(
            self.shown + other.shown, self.grown + other.grown, self.retracted + other.retracted
        )

    @property
    def retracted_share(self) -> float:
        """Share of the words shown that were taken back."""
        return self.retracted / max(self.shown, 1)

    @property
    def grown_share(self) -> float:
        """Share of the words shown that were not yet whole."""
        return self.grown / max(self.shown, 1)


def stability(partials: Sequence[Sequence[str]]) -> Stability:
    """Follows the words of one stream's partial results, given in their order."""
    shown = grown = retracted = 0
    for before, after in pairwise([[], *partials]):
        for old, new in zip_longest(before, after):
            if old == new:
                continue
            shown += new is not None
            grows = None not in (old, new) and new.startswith(old)
            grown += grows
            retracted += old is not None and not grows
    return Stability(shown, grown, retracted)


def words_of(tokens: Sequence[int], pieces: Sequence[str]) -> list[str]:
    """Spells tokens, as `greedy.detokenize` does."""
    return "".join(pieces[token] for token in tokens).replace("▁", " ").split()
