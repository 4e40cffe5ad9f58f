"""`tfasr evaluate`: error rates of a run, of an ensemble of runs or of an exported model."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import write_json, write_json_lines
from tfasr.audio.decoding import wav_bytes
from tfasr.audio.utterance import Split
from tfasr.configs.evaluation import DecodingConfig, EvaluateConfig
from tfasr.data.pipelines import evaluation_batches, every_example
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.decoders import Transcripts, decode_batches, greedy_decoder, search_decoder
from tfasr.evaluation.error_rates import Evaluation, evaluate_texts
from tfasr.evaluation.search import Search, load_language_model
from tfasr.evaluation.transcription import Hypothesis
from tfasr.evaluation.tuning import Tuning, tune
from tfasr.features.fbank import INT16_SCALE
from tfasr.serving.runtime import ServedModel
from tfasr.training.run import Run


def run(config: EvaluateConfig) -> None:
    """Evaluates, prints the rates and writes them with the hypotheses."""
    evaluate(config)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Does what `run` does, and returns the rates."""
    data = PreparedData(config.data)
    about: dict[str, Any] = {}
    with data.reading():
        if config.model is not None:
            transcripts = _of_model(config.model, config, data)
        else:
            transcripts, about = _RunEvaluation(config, data).transcribe()
    order = {row["id"]: place for place, row in enumerate(data.manifest(config.split))}
    rows = sorted(transcripts.to_json_lines(), key=lambda row: order[row["utterance_id"]])
    result = evaluate_texts([row["reference"] for row in rows], [row["text"] for row in rows])
    speed = transcripts.characters_per_second
    out = config.out or _default_out(config)
    write_json_lines(out / "hypotheses.jsonl", rows)
    write_json(
        out / "evaluation.json", {**result.to_json(), "characters_per_second": speed, **about}
    )
    print(_summary(result))
    print(f"{speed:,.0f} characters per second")
    print(f"written to {out}")
    return result


class _RunEvaluation:
    """Transcribes with a run or an ensemble of runs.

    Args:
        config: What to evaluate.
        data: The utterances.

    Raises:
        ValueError: The runs don't fit the data or each other.
    """

    def __init__(self, config: EvaluateConfig, data: PreparedData) -> None:
        self.config = config
        self.data = data
        self.runs = [Run(folder) for folder in config.run]
        for each in self.runs:
            each.check_data(data)
        _check_same_tokens(self.runs)
        self.language_model = load_language_model(config.decoder.lm, self.runs[0].tokenizer.pieces)
        self.recognisers = [
            each.recogniser(each.trained_model(config.step, config.chunk)) for each in self.runs
        ]

    def transcribe(self) -> tuple[Transcripts, dict[str, Any]]:
        """Returns the transcripts, and what `evaluation.json` says of how they came about."""
        decoding, about = self.config.decoder, {}
        if decoding.kind == "greedy":
            decoder = greedy_decoder(self.recognisers[0])
        else:
            if decoding.tune:
                tuning = tune(self._search(decoding, "valid"), *self._batches("valid", "tune"))
                decoding, about = tuning.config, {"tuning": tuning.to_json()}
                print(_told(tuning))
            decoder = search_decoder(self._search(decoding, self.config.split))
        transcripts = decode_batches(decoder, *self._batches(self.config.split, "evaluate"))
        return transcripts, {"decoder": decoding.to_json(), **about}

    def _search(self, decoding: DecodingConfig, split: Split) -> Search:
        # A token takes a frame of the encoding at least.
        frame = min(each.seconds_per_frame for each in self.recognisers)
        longest = max(self.data.durations(split, self.config.domains))
        return Search(
            recognisers=self.recognisers,
            config=decoding,
            language_model=self.language_model,
            max_tokens=math.ceil(longest / frame),
        )

    def _batches(self, split: Split, job: str) -> tuple[tf.data.Dataset, Callable[[int], None]]:
        """The same utterances for each run, by its own features; and what shows progress."""
        durations = self.data.durations(split, self.config.domains)
        batches = tuple(
            evaluation_batches(
                self.data.source(split),
                durations,
                domains=self.config.domains,
                extractor=each.extractor,
            )
            for each in self.runs
        )
        return tf.data.Dataset.zip(batches), _reporter(job, len(durations))


def _check_same_tokens(runs: Sequence[Run]) -> None:
    first, *others = runs
    for other in others:
        if other.tokenizer.pieces != first.tokenizer.pieces:
            raise ValueError(
                "runs of an ensemble must have the same tokenizer; got "
                f"{first.folder} with {first.tokenizer.vocabulary} pieces and {other.folder} "
                f"with {other.tokenizer.vocabulary}, which differ"
            )


def _of_model(folder: Path, config: EvaluateConfig, data: PreparedData) -> Transcripts:
    """Sends each utterance as the WAV file that a client would send."""
    durations = data.durations(config.split, config.domains)
    model = ServedModel(folder, max_seconds=max(durations) + 1)
    rate = data.index["sample_rate"]
    if rate != model.sample_rate:
        raise ValueError(
            f"{data.folder}: must have the model's sample rate of {model.sample_rate} Hz; "
            f"got {rate} Hz"
        )
    source = data.source(config.split)
    examples: Iterable[dict[str, tf.Tensor]] = every_example(
        source, durations, config.domains, rate
    )
    report = _reporter("evaluate", len(durations))
    hypotheses: list[Hypothesis] = []
    seconds = 0.0
    for example in examples:
        samples = np.round(example["waveform"].numpy() * INT16_SCALE).astype(np.int16)
        sent = [wav_bytes(samples, model.sample_rate)]
        if not hypotheses:
            # The first answer takes longer, and is not timed.
            model.transcribe(sent)
        started = time.perf_counter()
        (text,) = model.transcribe(sent)
        seconds += time.perf_counter() - started
        known = [example[name].numpy().decode() for name in ("id", "text", "speaker", "domain")]
        hypotheses.append(Hypothesis(known[0], known[1], text, known[2], known[3]))
        report(len(hypotheses))
    return Transcripts(hypotheses, [], seconds)


def _reporter(job: str, total: int) -> Callable[[int], None]:
    line = ProgressLine(job, out=sys.stderr)
    return lambda done: line(done, total)


def _default_out(config: EvaluateConfig) -> Path:
    parts = ["evaluation", config.data.resolve().name, config.split, *config.domains]
    if config.chunk is not None:
        parts.append(f"chunk{config.chunk}")
    if config.decoder.kind != "greedy":
        parts.append(config.decoder.kind)
    if config.decoder.lm is not None:
        parts.append(config.decoder.lm.stem)
    if config.model is not None:
        return config.model / "-".join(parts)
    if len(config.run) > 1:
        parts += ["with", *(run.resolve().name for run in config.run[1:])]
    return config.run[0] / "-".join(parts)


def _told(tuning: Tuning) -> str:
    weights = ", ".join(f"{name} {value:g}" for name, value in tuning.weights.items())
    return (
        f"tuned on {tuning.utterances} validation utterances, best of {tuning.tried} settings: "
        f"word error rate {100 * tuning.wer_before:.2f} % to {100 * tuning.wer:.2f} %\n"
        f"weights: {weights}"
    )


def _summary(result: Evaluation) -> str:
    def rate(name: str, value: float, interval: tuple[float, float]) -> str:
        low, high = interval
        return f"{name} {100 * value:.2f} % ({100 * low:.2f} to {100 * high:.2f})"

    return (
        f"{rate('word error rate', result.wer, result.wer_interval)}, "
        f"{rate('character error rate', result.cer, result.cer_interval)}\n"
        f"{result.substitutions} substitutions, {result.insertions} insertions, "
        f"{result.deletions} deletions in {result.words} words of {result.utterances} utterances"
    )
