"""Convolutional subsampling by four."""

from typing import Any

import keras
import tensorflow as tf

from tfasr.configs.model import Subsampling
from tfasr.models.dense import Dense
from tfasr.models.normalization import frames_or_all
from tfasr.models.scopes import build_in_scope
from tfasr.models.strided_convolution import bordered_patches, subsampled_patches

SUBSAMPLING = 4
# What the first frame without a border is made of.
RECEPTIVE_FIELD = 7


def subsampled(num_frames: tf.Tensor) -> tf.Tensor:
    """Frames after two halvings, each rounded up."""
    return (num_frames + SUBSAMPLING - 1) // SUBSAMPLING


def subsampled_without_border(num_frames: tf.Tensor) -> tf.Tensor:
    """Frames after two convolutions that see real frames only; below seven frames none."""
    frames = ((num_frames - 1) // 2 - 1) // 2
    return frames if isinstance(frames, int) else tf.maximum(frames, 0)


@keras.saving.register_keras_serializable(package="tfasr")
class ConvSubsampling(keras.layers.Layer):
    """Two 3x3 convolutions of stride 2 with ReLU, and a projection to the model's width.

    With a border, one frame is padded on either side whatever the length, where "same" padding
    of a stride would move with the parity of the longest utterance in the batch. Without one,
    each frame is made of seven real frames, or is padding itself.

    Args:
        dim: Channels of the convolutions and width D of the output.
        border: "same", a frame and a bin of zeros on every side, or "valid", none.

    Call:
        x: [B, T, F] float features.
        mask: [B, T] bool, True on real frames; None means all are real.
        returns: [B, T', D], T' as `num_frames` counts; one frame of padding where "valid"
            leaves none of a whole batch.

    Raises:
        ValueError: `border` is unknown, or leaves no mel bin.

    Source: Gulati et al. (2020), section 2; channels and padding from the counts of table 1.
        Without a border as in WeNet, whose 80 bins become 39 and 19.
    """

    def __init__(self, dim: int, border: Subsampling = "same", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if border not in ("same", "valid"):
            raise ValueError(f"border must be same or valid; got border={border!r}")
        self.dim = dim
        self.border = border
        self.conv_1 = keras.layers.Conv2D(dim, 3, 2, "valid", activation="relu", name="conv_1")
        self.conv_2 = keras.layers.Conv2D(dim, 3, 2, "valid", activation="relu", name="conv_2")
        self.project = Dense(dim, name="project")

    def num_frames(self, num_frames: tf.Tensor) -> tf.Tensor:
        """Counts the real frames it gives of so many, int32 of any shape."""
        if self.border == "valid":
            return subsampled_without_border(num_frames)
        return subsampled(num_frames)

    def build(self, input_shape: tf.TensorShape) -> None:
        bins = int(self.num_frames(int(input_shape[-1])))
        if bins < 1:
            raise ValueError(
                f"without a border at least {RECEPTIVE_FIELD} mel bins are needed; "
                f"got F={input_shape[-1]}"
            )
        build_in_scope(self.conv_1, (None, None, None, 1))
        build_in_scope(self.conv_2, (None, None, None, self.dim))
        build_in_scope(self.project, (None, None, bins * self.dim))
        super().build(input_shape)

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        if self.border == "valid":
            y = self.conv_2(self.conv_1(_with_channel(_at_least_seven(x))))  # [B, T', F', D]
        else:
            patches = bordered_patches(x, frames_or_all(mask, x))  # [B, T/2 + 2, F/2 + 2, 10]
            kernel = tf.reshape(self.conv_1.kernel, [-1, self.dim])
            kernel = tf.concat([kernel, self.conv_1.bias[None]], 0)
            # [B, T/4, F/4, D]
            y = subsampled_patches(patches, kernel, self.conv_2.kernel, self.conv_2.bias)
        return self._projected(y)

    def start(self, batch: tf.Tensor, num_mels: int) -> dict[str, tf.Tensor]:
        """Returns the state before a stream of `num_mels` mel bins: the border's zeros."""
        return {
            "features": tf.zeros([batch, 1, num_mels]),
            "halved": tf.zeros([batch, 1, (num_mels + 1) // 2, self.dim]),
        }

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Takes a chunk of a stream; needs a border.

        Frame i is made of frames 4 i - 3 to 4 i + 3, none beyond its own four.

        Args:
            x: [B, T, F] float features, T a multiple of four.
            mask: [B, T] bool, True on real frames.
            state: "features" [B, 1, F], the last frame, and "halved" [B, 1, F/2, D], that of
                the first convolution.

        Returns:
            [B, T/4, D], and the state after the chunk.
        """
        y, features = _continued(_with_channel(x), mask, _with_channel(state["features"]))
        y, halved = _continued(self.conv_1(y), mask[:, ::2], state["halved"])
        return self._projected(self.conv_2(y)), {"features": features[..., 0], "halved": halved}

    def _projected(self, y: tf.Tensor) -> tf.Tensor:
        batch, frames = tf.shape(y)[0], tf.shape(y)[1]
        return self.project(tf.reshape(y, [batch, frames, y.shape[2] * self.dim]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "border": self.border}


def _continued(x: tf.Tensor, mask: tf.Tensor, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Borders a chunk [B, T, F, C] with the last frame before it; also returns its own last."""
    real = tf.where(mask[:, :, None, None], x, tf.zeros([], x.dtype))
    whole = tf.concat([tf.cast(last, x.dtype), real], 1)
    return tf.pad(whole, [[0, 0], [0, 0], [1, 1], [0, 0]]), whole[:, -1:]


def _at_least_seven(x: tf.Tensor) -> tf.Tensor:
    """Pads [B, T, ...] to the frames that make one."""
    missing = tf.maximum(RECEPTIVE_FIELD - tf.shape(x)[1], 0)
    return tf.pad(x, [[0, 0], [0, missing], *[[0, 0]] * (x.shape.rank - 2)])


def _with_channel(x: tf.Tensor) -> tf.Tensor:
    """Returns [B, T, F, 1]. LiteRT has no `x[..., None]` of lengths that are not known."""
    return tf.expand_dims(x, -1)
