"""The SavedModel: WAV bytes or waveforms to text, in stock TensorFlow operations."""

from collections.abc import Sequence

import tensorflow as tf

from tfasr.decoding.greedy import detokenize, greedy_tokens
from tfasr.export.freeze import freeze_block
from tfasr.features.extractor import FeatureExtractor
from tfasr.models.conformer import ConformerCTC
from tfasr.models.subsampling import subsampled

_WAVEFORMS = [
    tf.TensorSpec([None, None], tf.float32, name="waveforms"),
    tf.TensorSpec([None], tf.int32, name="num_samples"),
]


class Recogniser(tf.Module):
    """What is exported.

    Args:
        model: The trained model; its frozen blocks are of no use for training afterwards.
        extractor: The features that it was trained on.
        pieces: Surfaces of its tokens.
        frozen_blocks: Blocks whose weights become constants of the graph.
    """

    def __init__(
        self,
        model: ConformerCTC,
        extractor: FeatureExtractor,
        pieces: Sequence[str],
        frozen_blocks: Sequence[int],
    ) -> None:
        super().__init__()
        for block in frozen_blocks:
            freeze_block(model.blocks[block])
        kept = [b for index, b in enumerate(model.blocks) if index not in frozen_blocks]
        # These alone are written to variables/: tracking the model would write all of them.
        self.weights = [v for part in (model.subsampling, *kept, model.head) for v in part.weights]
        self._transcribe = _transcriber(model, extractor, pieces)
        self._extractor = extractor

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def serving_default(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
        """Transcribes 16-bit PCM WAV files of the model's sample rate, [B] string."""
        waveforms = tf.map_fn(
            self._decode, audio, fn_output_signature=tf.RaggedTensorSpec([None], tf.float32)
        )
        lengths = tf.cast(waveforms.row_lengths(), tf.int32)
        return {"text": self._transcribe(waveforms.to_tensor(), lengths)}

    def _decode(self, wav: tf.Tensor) -> tf.RaggedTensor:
        samples, rate = tf.audio.decode_wav(wav)  # [T, channels]
        expected = self._extractor.fbank.sample_rate
        check = tf.debugging.assert_equal(
            rate, expected, message=f"audio must have a sample rate of {expected} Hz"
        )
        with tf.control_dependencies([check]):
            return tf.RaggedTensor.from_tensor(tf.reduce_mean(samples, -1)[None])[0]

    @tf.function(input_signature=_WAVEFORMS)
    def waveforms(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Transcribes waveforms [B, T] in [-1, 1] with their real lengths [B]."""
        return {"text": self._transcribe(waveforms, num_samples)}

    @tf.function(input_signature=_WAVEFORMS)
    def features(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the model's input [B, T', F] and its real frames [B]."""
        features, num_frames = self._extractor(waveforms, num_samples)
        return {"features": features, "num_frames": num_frames}

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Traces the signatures, by name."""
        return {
            name: getattr(self, name).get_concrete_function()
            for name in ("serving_default", "waveforms", "features")
        }


def _transcriber(
    model: ConformerCTC, extractor: FeatureExtractor, pieces: Sequence[str]
) -> tf.types.experimental.GenericFunction:
    @tf.function(input_signature=_WAVEFORMS, autograph=False)
    def transcribe(waveforms: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        features, num_frames = extractor(waveforms, num_samples)
        logits = model(features, num_frames)
        return detokenize(greedy_tokens(logits, subsampled(num_frames)), pieces)

    return transcribe


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
