"""How a module's output joins its input."""

from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf

from tfasr.configs.model import Residual
from tfasr.models.normalization import LayerNorm


@dataclass(frozen=True)
class ResidualForm:
    """Which norms stand where, and whether the input is scaled.

    Args:
        norm_before: A module takes in a norm of its input.
        norm_after: A norm takes in each sum.
        norm_last: A norm takes in the last sum only.
        deep: The input counts alpha times in the sum, and weights start with gain beta.
    """

    norm_before: bool
    norm_after: bool
    norm_last: bool
    deep: bool


# Gulati et al. (2020), equation 1; Wu (2022), "Deep Sparse Conformer", equations 1 to 4, 12 to
# 15, section 4.4.2, and the code released with it.
FORMS: dict[Residual, ResidualForm] = {
    "pre_norm": ResidualForm(True, False, True, False),
    "post_norm": ResidualForm(False, True, False, False),
    "deep_norm": ResidualForm(False, True, False, True),
    "deep_norm_mixture": ResidualForm(True, True, False, True),
    "deep_norm_release": ResidualForm(True, False, True, True),
}


def form_of(residual: Residual) -> ResidualForm:
    """Looks up a form by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if residual not in FORMS:
        raise ValueError(f"residual must be one of {', '.join(FORMS)}; got residual={residual!r}")
    return FORMS[residual]


def deep_norm_factors(
    num_blocks: int, num_decoder_blocks: int, alpha_of: Literal["paper", "release"] = "paper"
) -> tuple[float, float]:
    """Computes alpha = 0.81 (N^4 M)^(1/16) and beta = 0.87 (N^4 M)^(-1/16).

    Args:
        num_blocks: Encoder blocks N.
        num_decoder_blocks: Decoder blocks M of one direction; without a decoder M is 1.
        alpha_of: "release" takes twice N, as the authors' code does.

    Returns:
        How often a module's input counts in the sum with its output, and the Xavier gain of
        the feed-forward, value and output projections.

    Source: Wu (2022), "Deep Sparse Conformer", section 3.2, for alpha; Wang et al. (2022),
        "DeepNet", figure 2, for beta.
    """
    depth = num_blocks if alpha_of == "paper" else 2 * num_blocks
    product = depth**4 * max(num_decoder_blocks, 1)
    return 0.81 * product ** (1 / 16), 0.87 * product ** (-1 / 16)


def layer_norm(name: str) -> LayerNorm:
    """Makes a layer norm over the channels, as all of ours are."""
    return LayerNorm(name=name)


def without_norm(module: keras.layers.Layer) -> Any:
    """Has a module that is not yet built take its input in as it is; returns the module."""
    module.norm = keras.layers.Identity(name="norm")
    return module


@keras.saving.register_keras_serializable(package="tfasr")
class AfterNorm(LayerNorm):
    """Layer norm after the last block, called as a block is.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool; a norm of each frame alone has no use for it.
        seed: [2] int32; not used.
        returns: [B, T, D].
    """

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        return super().call(x)


@keras.saving.register_keras_serializable(package="tfasr")
class ResidualPath(keras.layers.Layer):
    """What is left of a block without its modules: its input, through the norm at its end.

    Called, and taken in steps, as a block is.

    Args:
        norm: A built layer; None for none.

    Call:
        x: [B, T, D] float.
        mask: [B, T] bool; not used, nor are the others.
        returns: [B, T, D].
    """

    stride = 1

    def __init__(self, norm: keras.layers.Layer | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.norm = norm
        self.supports_masking = True

    @property
    def gains(self) -> dict[str, float]:
        """Xavier gains other than 1 of its first weights: none."""
        return {}

    def residual_path(self) -> "ResidualPath":
        """Returns itself: nothing more can be left out."""
        return self

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
        attention_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        return x if self.norm is None else self.norm(x)

    def start(self, batch: tf.Tensor, past: int) -> dict[str, tf.Tensor]:
        """Returns the state before a stream: nothing."""
        return {}

    def step(
        self, x: tf.Tensor, mask: tf.Tensor, heard: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Takes a chunk [B, T, D] of a stream; returns [B, T, D], and no state."""
        return self(x), {}

    def get_config(self) -> dict[str, Any]:
        store = keras.saving.serialize_keras_object
        return {**super().get_config(), "norm": self.norm and store(self.norm)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ResidualPath":
        norm = config["norm"] and keras.saving.deserialize_keras_object(config["norm"])
        return cls(**{**config, "norm": norm})
