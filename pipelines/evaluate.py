"""`tfasr evaluate`: error rates of a run or an exported model."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import write_json, write_json_lines
from tfasr.audio.decoding import wav_bytes
from tfasr.configs.evaluation import EvaluateConfig
from tfasr.data.pipelines import evaluation_batches, every_example
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.error_rates import Evaluation, evaluate_texts
from tfasr.evaluation.transcription import Hypothesis, model_transcriber, transcribe_batches
from tfasr.features.fbank import INT16_SCALE
from tfasr.serving.runtime import ServedModel
from tfasr.training.run import Run


def run(config: EvaluateConfig) -> None:
    """Evaluates, prints the rates and writes them with the hypotheses."""
    evaluate(config)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Does what `run` does, and returns the rates."""
    data = PreparedData(config.data)
    with data.reading():
        hypotheses = _hypotheses(config, data)
    order = {row["id"]: place for place, row in enumerate(data.manifest(config.split))}
    hypotheses.sort(key=lambda hypothesis: order[hypothesis.utterance_id])
    result = evaluate_texts([h.reference for h in hypotheses], [h.text for h in hypotheses])
    out = config.out or _default_out(config)
    write_json_lines(out / "hypotheses.jsonl", map(asdict, hypotheses))
    write_json(out / "evaluation.json", result.to_json())
    print(_summary(result))
    print(f"written to {out}")
    return result


def _hypotheses(config: EvaluateConfig, data: PreparedData) -> list[Hypothesis]:
    source = data.source(config.split)
    durations = data.durations(config.split, config.domains)
    line = ProgressLine("evaluate")

    def report(done: int) -> None:
        line(done, len(durations))

    if config.model is not None:
        model = ServedModel(config.model, max_seconds=max(durations) + 1)
        rate = data.index["sample_rate"]
        if rate != model.sample_rate:
            raise ValueError(
                f"{data.folder}: must have the model's sample rate of {model.sample_rate} Hz; "
                f"got {rate} Hz"
            )
        examples = every_example(source, durations, config.domains, rate)
        return _of_model(model, examples, report)
    run = Run(config.run or Path())
    run.check_data(data)
    transcribe = model_transcriber(run.trained_model(config.step), run.tokenizer.pieces)
    batches = evaluation_batches(source, durations, domains=config.domains, extractor=run.extractor)
    return transcribe_batches(transcribe, batches, report)


def _of_model(
    model: ServedModel, examples: Iterable[dict[str, tf.Tensor]], report: Callable[[int], None]
) -> list[Hypothesis]:
    """Sends each utterance as the WAV file that a client would send."""
    hypotheses: list[Hypothesis] = []
    for example in examples:
        samples = np.round(example["waveform"].numpy() * INT16_SCALE).astype(np.int16)
        (text,) = model.transcribe([wav_bytes(samples, model.sample_rate)])
        known = [example[name].numpy().decode() for name in ("id", "text", "speaker", "domain")]
        hypotheses.append(Hypothesis(known[0], known[1], text, known[2], known[3]))
        report(len(hypotheses))
    return hypotheses


def _default_out(config: EvaluateConfig) -> Path:
    where = "-".join(["evaluation", config.data.resolve().name, config.split, *config.domains])
    return (config.run or config.model or Path()) / where


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
