"""The SavedModel: WAV bytes or waveforms to text, in stock TensorFlow operations."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from tfasr.configs.evaluation import DecodingConfig
from tfasr.evaluation.search import Recogniser
from tfasr.export.freeze import Freezing
from tfasr.export.stream_signatures import StreamSignatures
from tfasr.export.transcribing import Transcription, transcriber
from tfasr.features.extractor import FeatureExtractor
from tfasr.features.resampling import resample
from tfasr.features.wav import read_wav
from tfasr.models.fusion import inferring

_AUDIO = [tf.TensorSpec([None], tf.string, name="audio")]
_WAVEFORMS = [
    tf.TensorSpec([None, None], tf.float32, name="waveforms"),
    tf.TensorSpec([None], tf.int32, name="num_samples"),
]

Signatures = dict[str, tf.types.experimental.ConcreteFunction]
_GREEDY = DecodingConfig()
_LENGTHS_A_SECOND = 4


class ExportedModel(tf.Module):
    """What is exported: the signatures, and the weights that they read.

    `signatures()` gives, by name:
        serving_default: "audio" [B] string, WAV files as `read_wav` takes them, of any common
            rate, to what `transcriber` says of them.
        waveforms: "waveforms" [B, T] float32 in [-1, 1] of the model's rate and "num_samples" [B]
            int32 to the same.
        features: the same to "features" [B, T', F] and "num_frames" [B], the model's input.
        stream_start, stream_step: Of a model that streams; see `StreamSignatures`.

    Args:
        recogniser: The trained model with its pieces, of no use for training afterwards.
        extractor: The features that it was trained on.
        freezing: Which of its blocks are frozen, and as what.
        decoding: How whole utterances are decoded.

    Attributes:
        window: The samples of a stream's step; None where the model does not stream.

    Raises:
        ValueError: The model lacks the decoder that is asked for, or a block can't be frozen so.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        extractor: FeatureExtractor,
        freezing: Freezing,
        decoding: DecodingConfig = _GREEDY,
    ) -> None:
        super().__init__()
        model = recogniser.model
        freezing.settle(model)
        self.resources = freezing.fix(model)
        transcribe = transcriber(recogniser, decoding)
        with inferring():
            signatures = _traced(_functions(extractor, transcribe))
        if not _has_joined_norms(signatures["waveforms"]):
            with inferring(joined_norms=False):
                signatures = _traced(_functions(extractor, transcribe))
        # The whole utterance, 0, takes no steps.
        chunk = next((chunk for chunk in model.chunks if chunk), 0)
        self.window = None
        if chunk:
            stream = StreamSignatures(model, extractor, recogniser.pieces, chunk)
            with inferring(joined_norms=False):
                signatures |= _traced(stream.functions())
            self.window = stream.window
        # These alone are written to variables/: tracking the model would write all of them.
        read = {v.ref() for signature in signatures.values() for v in signature.variables}
        self.weights = [v for v in model.variables if v.ref() in read]
        # A function of the module would be saved once more beside its signature.
        self.signatures: Callable[[], Signatures] = lambda: signatures


def _traced(functions: dict[str, Any]) -> Signatures:
    return {name: each.get_concrete_function() for name, each in functions.items()}


def _has_joined_norms(waveforms: tf.types.experimental.ConcreteFunction) -> bool:
    """Whether TensorFlow joins the layer norms of `inferring`, as it does not beside constants.

    Apart they are slow, and two calls at once corrupt memory.
    """
    with context.collect_graphs(optimized=True) as graphs:
        waveforms(waveforms=tf.zeros([1, 2**14]), num_samples=tf.constant([2**14]))
    return not any("FusedBatchNormV3" in operations_of(graph) for graph in graphs)


def _functions(
    extractor: FeatureExtractor, transcribe: Callable[[tf.Tensor, tf.Tensor], Transcription]
) -> dict[str, Any]:
    """Makes the signatures of whole utterances, untraced."""

    # A function of its own, so that two signatures share one copy of the graph.
    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def heard(waveforms: tf.Tensor, num_samples: tf.Tensor) -> Transcription:
        step = extractor.fbank.sample_rate // _LENGTHS_A_SECOND
        return transcribe(*extractor(to_whole_steps(waveforms, step), num_samples))

    @tf.function(input_signature=_AUDIO, autograph=False)
    def serving_default(audio: tf.Tensor) -> Any:
        decoded = tf.map_fn(
            functools.partial(_decode, sample_rate=extractor.fbank.sample_rate),
            audio,
            fn_output_signature=tf.RaggedTensorSpec([None], tf.float32),
        )
        return heard(decoded.to_tensor(), tf.cast(decoded.row_lengths(), tf.int32))

    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def waveforms(waveforms: tf.Tensor, num_samples: tf.Tensor) -> Any:
        return heard(waveforms, num_samples)

    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def features(waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        frames, num_frames = extractor(waveforms, num_samples)
        return {"features": frames, "num_frames": num_frames}

    return {"serving_default": serving_default, "waveforms": waveforms, "features": features}


def to_whole_steps(waveforms: tf.Tensor, step: int) -> tf.Tensor:
    """Pads [B, T] with zeros to the next multiple of `step` samples.

    oneDNN prepares an operation for each shape anew, and TensorFlow keeps so many of them only:
    where every batch has a length of its own, that is a fifth of the time of a short utterance,
    and memory that grows for thousands of calls.
    """
    return tf.pad(waveforms, [[0, 0], [0, -tf.shape(waveforms)[1] % step]])


def _decode(wav: tf.Tensor, sample_rate: int) -> tf.RaggedTensor:
    waveform = resample(*read_wav(wav), sample_rate)
    return tf.RaggedTensor.from_tensor(waveform[None])[0]


def custom_operations(graph_def: tf.compat.v1.GraphDef) -> list[str]:
    """Names the operations of a graph that plain TensorFlow Serving does not have.

    Python operations are registered wherever TensorFlow's Python package is, but run nowhere
    else.
    """
    used = operations_of(graph_def)
    own = {function.signature.name for function in graph_def.library.function}
    python = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
    known = set(tf.raw_ops.__dict__) - python
    return sorted(op for op in used - own if op not in known)


def operations_of(graph_def: tf.compat.v1.GraphDef) -> set[str]:
    """Names the kinds of operations of a graph and its functions."""
    functions = (node for f in graph_def.library.function for node in f.node_def)
    return {node.op for nodes in (graph_def.node, functions) for node in nodes}
