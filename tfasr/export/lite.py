"""LiteRT models, for devices: LiteRT's own operations, from waveforms to tokens."""

import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from tfasr.configs.export import LiteForm
from tfasr.decoding.greedy import greedy_frames
from tfasr.decoding.transducer_greedy import transducer_greedy
from tfasr.export.stream_signatures import StreamSignatures, emitted_tokens
from tfasr.features.extractor import FeatureExtractor
from tfasr.features.fbank import unquantised
from tfasr.models.acoustic_model import AcousticModel

OFFLINE, STREAM = "offline", "stream_step"


class LiteModel(tf.Module):
    """What LiteRT runs: one utterance, or one stream, at a time, by the best symbols.

    LiteRT has no strings: what it gives are tokens [1, N] int32 among which -1 stands for none;
    `text_of` joins them.

        offline: "waveforms" [1, T] float32 in [-1, 1] to "tokens".
        stream_step: Of a model that streams: "waveforms" [1, S], "num_samples" [1] and the state,
            zeros before the first step, to "tokens" and the next state by the same names.

    Args:
        model: The trained model, settled; its weights are variables.
        extractor: Its features.
        pieces: Surfaces of its tokens.
    """

    def __init__(
        self, model: AcousticModel, extractor: FeatureExtractor, pieces: Sequence[str]
    ) -> None:
        super().__init__()
        self.weights = model.weights
        functions = {OFFLINE: _offline(model, extractor)}
        chunk = next((chunk for chunk in model.chunks if chunk), 0)
        if chunk:
            functions[STREAM] = _stream_step(StreamSignatures(model, extractor, pieces, chunk))
        with unquantised():
            self._functions = {name: f.get_concrete_function() for name, f in functions.items()}

    def convert(self, form: LiteForm) -> bytes:
        """Converts it.

        Args:
            form: "float"; "int8" has kernels of 8 bits and computes in floats where LiteRT can't
                in 8 bits (dynamic range); "float16" has weights of 16 bits.

        Returns:
            The file's content.
        """
        with tempfile.TemporaryDirectory() as scratch:
            tf.saved_model.save(self, scratch, signatures=self._functions)
            converter = tf.lite.TFLiteConverter.from_saved_model(
                scratch, signature_keys=list(self._functions)
            )
            if form != "float":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if form == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return bytes(converter.convert())


def _offline(model: AcousticModel, extractor: FeatureExtractor) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([1, None], name="waveforms")], autograph=False)
    def offline(waveforms: tf.Tensor) -> dict[str, tf.Tensor]:
        features, num_frames = extractor(waveforms, tf.shape(waveforms)[1:])
        encoded, _ = model.encode(features, num_frames)
        # LiteRT has no tf.ensure_shape.
        encoded.set_shape([1, None, None])
        num_encoded = model.encoded_frames(num_frames)
        if model.prediction is None:
            logits = model.head(encoded)
            return {"tokens": greedy_frames(logits, num_encoded, tf.constant([-1]))[0]}
        found = transducer_greedy(model.prediction, model.joint, encoded, num_encoded)
        return {"tokens": emitted_tokens(found)}

    return offline


def _stream_step(stream: StreamSignatures) -> Any:
    with tf.Graph().as_default():
        state = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for name, tensor in stream.start(1).items()
        }
    signature = [
        tf.TensorSpec([1, stream.window.samples], name="waveforms"),
        tf.TensorSpec([1], tf.int32, name="num_samples"),
        state,
    ]

    @tf.function(input_signature=signature, autograph=False)
    def stream_step(
        waveforms: tf.Tensor, num_samples: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        tokens, after = stream.step(waveforms, num_samples, state)
        return {"tokens": tokens, **after}

    return stream_step


def custom_lite_operations(content: bytes) -> list[str]:
    """Names the operations of a LiteRT model that plain LiteRT does not have."""
    model = schema.ModelT.InitFromPackedBuf(content)
    codes = model.operatorCodes or []
    return sorted({code.customCode.decode() for code in codes if code.customCode})


def text_of(tokens: NDArray[np.int32], pieces: Sequence[str]) -> str:
    """Joins a LiteRT model's tokens to text, as `greedy.detokenize` does."""
    joined = "".join(pieces[token] for token in np.ravel(tokens).tolist() if token >= 0)
    return re.sub("[▁ ]+", " ", joined).strip()


class LiteRunner:
    """A LiteRT model in memory.

    Args:
        content: Of its file.
        pieces: Surfaces of its tokens.
    """

    def __init__(self, content: bytes, pieces: Sequence[str]) -> None:
        self.pieces = pieces
        # The interpreter must outlive what it gives.
        self._interpreter = tf.lite.Interpreter(model_content=content)
        self._runners = {
            name: self._interpreter.get_signature_runner(name)
            for name in self._interpreter.get_signature_list()
        }

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """Gives the text of a waveform [T] of the model's rate."""
        return text_of(self._runners[OFFLINE](waveforms=waveform[None])["tokens"], self.pieces)

    def transcribe_stream(self, waveform: NDArray[np.float32], shift: int) -> str:
        """Gives the text of a waveform [T], step by step, windows `shift` samples apart."""
        step = self._runners[STREAM]
        inputs = step.get_input_details()
        state = {
            name: np.zeros(tensor["shape"], tensor["dtype"])
            for name, tensor in inputs.items()
            if name not in ("waveforms", "num_samples")
        }
        size, tokens = int(inputs["waveforms"]["shape"][1]), []
        for start in range(0, len(waveform), shift):
            piece = waveform[start : start + size]
            window = np.pad(piece, [0, size - len(piece)])[None]
            count = np.array([len(piece)], np.int32)
            answer = step(waveforms=window, num_samples=count, **state)
            tokens += np.ravel(answer["tokens"]).tolist()
            state = {name: answer[name] for name in state}
        return text_of(np.array(tokens, np.int32), self.pieces)
