"""The SavedModel: WAV bytes or waveforms to text, in stock TensorFlow operations."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfasr.decoding.first_best import first_best
from tfasr.decoding.greedy import detokenize
from tfasr.export.freeze import Freezing
from tfasr.features.extractor import FeatureExtractor
from tfasr.models.acoustic_model import AcousticModel

_AUDIO = [tf.TensorSpec([None], tf.string, name="audio")]
_WAVEFORMS = [
    tf.TensorSpec([None, None], tf.float32, name="waveforms"),
    tf.TensorSpec([None], tf.int32, name="num_samples"),
]

Signatures = dict[str, tf.types.experimental.ConcreteFunction]


class Recogniser(tf.Module):
    """What is exported: the signatures, and the weights that they read.

    `signatures()` gives, by name:
        serving_default: "audio" [B] string, 16-bit PCM WAV files of the model's sample rate, to
            "text" [B] string.
        waveforms: "waveforms" [B, T] float32 in [-1, 1] and "num_samples" [B] int32 to "text".
        features: the same to "features" [B, T', F] and "num_frames" [B], the model's input.

    Args:
        model: The trained model, of no use for training afterwards; it is settled first.
        extractor: The features that it was trained on.
        pieces: Surfaces of its tokens.
        freezing: Which of its blocks are frozen, and as what.
    """

    def __init__(
        self,
        model: AcousticModel,
        extractor: FeatureExtractor,
        pieces: Sequence[str],
        freezing: Freezing,
    ) -> None:
        super().__init__()
        freezing.settle(model)
        self.resources = freezing.fix(model)
        signatures = _signatures(model, extractor, pieces)
        # These alone are written to variables/: tracking the model would write all of them.
        read = {v.ref(): v for signature in signatures.values() for v in signature.variables}
        self.weights = [v for v in model.variables if v.ref() in read]
        # A function of the module would be saved once more beside its signature.
        self.signatures: Callable[[], Signatures] = lambda: signatures


def _signatures(
    model: AcousticModel, extractor: FeatureExtractor, pieces: Sequence[str]
) -> Signatures:
    # A function of its own, so that two signatures share one copy of the graph.
    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def transcribe(waveforms: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        frames, num_frames = extractor(waveforms, num_samples)
        encoded, _ = model.encode(frames, num_frames)
        return detokenize(first_best(model, encoded, model.encoded_frames(num_frames)), pieces)

    @tf.function(input_signature=_AUDIO, autograph=False)
    def serving_default(audio: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = tf.map_fn(
            functools.partial(_decode, sample_rate=extractor.fbank.sample_rate),
            audio,
            fn_output_signature=tf.RaggedTensorSpec([None], tf.float32),
        )
        num_samples = tf.cast(decoded.row_lengths(), tf.int32)
        return {"text": transcribe(decoded.to_tensor(), num_samples)}

    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def waveforms(waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": transcribe(waveforms, num_samples)}

    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def features(waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        frames, num_frames = extractor(waveforms, num_samples)
        return {"features": frames, "num_frames": num_frames}

    return {
        name: function.get_concrete_function()
        for name, function in [
            ("serving_default", serving_default),
            ("waveforms", waveforms),
            ("features", features),
        ]
    }


def _decode(wav: tf.Tensor, sample_rate: int) -> tf.RaggedTensor:
    samples, rate = tf.audio.decode_wav(wav)  # [T, channels]
    check = tf.debugging.assert_equal(
        rate, sample_rate, message=f"audio must have a sample rate of {sample_rate} Hz"
    )
    with tf.control_dependencies([check]):
        return tf.RaggedTensor.from_tensor(tf.reduce_mean(samples, -1)[None])[0]


def custom_operations(graph_def: tf.compat.v1.GraphDef) -> list[str]:
    """Names the operations of a graph that plain TensorFlow Serving does not have.

    Python operations are registered wherever TensorFlow's Python package is, but run nowhere
    else.
    """
    functions = [node for f in graph_def.library.function for node in f.node_def]
    used = {node.op for node in (*graph_def.node, *functions)}
    own = {function.signature.name for function in graph_def.library.function}
    python = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
    known = set(tf.raw_ops.__dict__) - python
    return sorted(op for op in used - own if op not in known)
