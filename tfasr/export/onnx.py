"""ONNX models, for ONNX Runtime: ONNX's own operations, from waveforms to tokens."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfasr.decoding.greedy import greedy_frames
from tfasr.export.lite import text_of
from tfasr.features.extractor import FeatureExtractor
from tfasr.models.acoustic_model import AcousticModel

# The first with a Fourier transform, which the filterbank is made of.
_OPSET = 17
_SPECS = [
    tf.TensorSpec([None, None], tf.float32, "waveforms"),
    tf.TensorSpec([None], tf.int32, "num_samples"),
]


def require_onnx() -> None:
    """Says how to install what ONNX needs where it is missing.

    Raises:
        ModuleNotFoundError: tf2onnx or onnxruntime is not installed.
    """
    for name in ("tf2onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"--onnx needs {name}; pip install 'tfasr[onnx]'")


def convert_onnx(model: AcousticModel, extractor: FeatureExtractor) -> bytes:
    """Converts a model with its features: whole utterances by the best symbols.

    Args:
        model: Trained and settled; its weights are variables.
        extractor: Its features.

    Returns:
        The file's content. Its inputs are "waveforms" [B, T] float32 in [-1, 1] and "num_samples"
        [B] int32; its output is "tokens" [B, N] int32, among which -1 stands for none, for ONNX
        Runtime has no joins of strings: `text_of` makes text of them.

    Raises:
        ModuleNotFoundError: tf2onnx is not installed.
        ValueError: The model is a transducer, or tf2onnx makes nothing of it that runs.
    """
    require_onnx()
    if model.prediction is not None:
        raise ValueError(
            "an ONNX model is made of one that hears by CTC, for tf2onnx can't convert a "
            "transducer's loop; got a transducer: give it without --onnx, or --lite"
        )
    import tf2onnx

    @tf.function(input_signature=_SPECS, autograph=False)
    def hear(waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        features, num_frames = extractor(waveforms, num_samples)
        encoded, _ = model.encode(features, num_frames)
        num_encoded = model.encoded_frames(num_frames)
        nothing = tf.fill([tf.shape(waveforms)[0]], -1)
        return {"tokens": greedy_frames(model.head(encoded), num_encoded, nothing)[0]}

    proto, _ = tf2onnx.convert.from_function(hear, _SPECS, opset=_OPSET)
    content = bytes(proto.SerializeToString())
    try:
        OnnxRunner(content, ()).tokens([np.zeros(extractor.fbank.sample_rate, np.float32)])
    except Exception as error:  # ONNX Runtime has no class of its own for its errors.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"ONNX Runtime can't run what tf2onnx makes of this model; {reason}. Export it "
            "without --onnx"
        ) from None
    return content


class OnnxRunner:
    """An ONNX model in memory.

    Args:
        content: Of its file.
        pieces: Surfaces of its tokens.
    """

    def __init__(self, content: bytes, pieces: Sequence[str]) -> None:
        import onnxruntime

        self.pieces = pieces
        self._session: Any = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        )

    def transcribe(self, waveforms: Sequence[NDArray[np.float32]]) -> list[str]:
        """Gives the texts of waveforms [T] of the model's rate, heard together."""
        return [text_of(row, self.pieces) for row in self.tokens(waveforms)]

    def tokens(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.int32]:
        """Gives the tokens [B, N] of waveforms [T]; -1 stands for none."""
        counts = np.array([len(each) for each in waveforms], np.int32)
        padded = np.zeros([len(waveforms), counts.max(initial=0)], np.float32)
        for row, each in zip(padded, waveforms, strict=True):
            row[: len(each)] = each
        [found] = self._session.run(["tokens"], {"waveforms": padded, "num_samples": counts})
        return np.asarray(found)
