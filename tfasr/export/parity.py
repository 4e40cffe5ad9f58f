"""Whether a checkpoint and all that was exported of it write the same text."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.configs.evaluation import DecodingConfig
from tfasr.evaluation.error_rates import evaluate_texts
from tfasr.evaluation.search import Recogniser
from tfasr.export.lite import LiteRunner
from tfasr.export.measuring import Spoken
from tfasr.export.onnx import OnnxRunner
from tfasr.export.transcribing import transcriber
from tfasr.features.extractor import FeatureExtractor

# From an utterance to its text.
Listener = Callable[[Spoken], str]


def checkpoint_listener(
    recogniser: Recogniser, extractor: FeatureExtractor, decoding: DecodingConfig
) -> Listener:
    """Listens with a model in memory, settled as its export is."""
    transcribe = tf.function(
        transcriber(recogniser, decoding),
        input_signature=[
            tf.TensorSpec([None, None, recogniser.model.num_mels]),
            tf.TensorSpec([None], tf.int32),
        ],
        autograph=False,
    )
    # Traced at once: when it is asked, the model may be an export, and frozen.
    transcribe = transcribe.get_concrete_function()

    def listen(utterance: Spoken) -> str:
        waveform = samples_of(utterance)
        features = extractor(tf.constant(waveform[None]), tf.constant([len(waveform)]))
        return str(transcribe(*features)["text"].numpy()[0].decode())

    return listen


def saved_listener(folder: Path) -> Listener:
    """Listens with a SavedModel."""
    model = tf.saved_model.load(str(folder))

    def listen(utterance: Spoken) -> str:
        answer = model.signatures["serving_default"](audio=tf.constant([utterance.wav]))
        return str(answer["text"].numpy()[0].decode())

    return listen


def lite_listener(content: bytes, pieces: Sequence[str]) -> Listener:
    """Listens with a LiteRT model, to whole utterances."""
    runner = LiteRunner(content, pieces)
    return lambda utterance: runner.transcribe(samples_of(utterance))


def onnx_listener(content: bytes, pieces: Sequence[str]) -> Listener:
    """Listens with an ONNX model."""
    runner = OnnxRunner(content, pieces)
    return lambda utterance: runner.transcribe([samples_of(utterance)])[0]


def samples_of(utterance: Spoken) -> NDArray[np.float32]:
    """The waveform [T] of an utterance, in [-1, 1]."""
    samples, _ = soundfile.read(io.BytesIO(utterance.wav), dtype="float32")
    return np.asarray(samples)


def parity(utterances: Sequence[Spoken], listeners: Mapping[str, Listener]) -> dict[str, Any]:
    """Has all listen to all utterances.

    Args:
        utterances: At least one.
        listeners: By name, the one that the others are held against first.

    Returns:
        A JSON object: "utterances", how many; "evaluations" of each; "differences", for each
        but the first the utterances of which it wrote another text, with both texts.
    """
    texts = {name: [listen(each) for each in utterances] for name, listen in listeners.items()}
    first, *others = texts
    said = [each.text for each in utterances]
    differences = {
        other: [
            {"utterance": each.name, first: expected, other: got}
            for each, expected, got in zip(utterances, texts[first], texts[other], strict=True)
            if expected != got
        ]
        for other in others
    }
    evaluations = {name: evaluate_texts(said, found).to_json() for name, found in texts.items()}
    return {
        "utterances": len(utterances),
        "evaluations": evaluations,
        "differences": differences,
    }
