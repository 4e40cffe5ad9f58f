"""Which form operations take: compiled in training steps, joined by oneDNN for inference."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

_FUSING = ContextVar("fusing", default=False)
_INFERRING = ContextVar("inferring", default="")

Tensors = tuple[tf.Tensor, ...]


@contextmanager
def fusing() -> Iterator[None]:
    """Has XLA compile the chains of a graph that is traced inside, one program a shape.

    A program takes about 0.1 s to compile, so this is for training on batches of few shapes.
    Elsewhere (step by step, at a federated client, in an exported model) chains are
    TensorFlow's own operations, with the same values up to rounding.
    """
    token = _FUSING.set(True)
    try:
        yield
    finally:
        _FUSING.reset(token)


@contextmanager
def inferring(*, joined_norms: bool = True) -> Iterator[None]:
    """Has a graph that is traced inside use forms that are fast, and have no gradient of ours.

    They are stock operations, which TensorFlow's graph optimiser joins to oneDNN's. Where it is
    off, or a graph becomes that of another runtime, they are slower than the plain ones.

    Args:
        joined_norms: Whether it joins the layer norms of this graph.
    """
    token = _INFERRING.set("joined" if joined_norms else "apart")
    try:
        yield
    finally:
        _INFERRING.reset(token)


def is_inferring() -> bool:
    """Whether what is traced now is for inference in a graph of TensorFlow's."""
    return bool(_INFERRING.get()) and not tf.executing_eagerly()


def joins_layer_norms() -> bool:
    """Whether TensorFlow joins the layer norms of what is traced now."""
    return _INFERRING.get() == "joined" and not tf.executing_eagerly()


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has a function of tensors, and settings by keyword, compiled wherever chains are.

    What it gives then has no gradient: it is for use in gradients of one's own.
    """
    compiled = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def call(*tensors: tf.Tensor, **settings: Any) -> Any:
        # Step by step there is no graph to compile.
        if tf.executing_eagerly() or not _FUSING.get():
            return function(*tensors, **settings)
        # A tape that saw them would have a gradient of the gradient made.
        return compiled(*(tf.stop_gradient(tensor) for tensor in tensors), **settings)

    return call


class Chain:
    """A function with a gradient of its own, forward and backward one pass over memory each.

    Args:
        forward: From tensors, and settings by keyword, to a tensor and a tuple of what else the
            gradient needs. None of what it was given: what XLA passes on, it copies.
        backward: From the tensors, that tuple and the upstream gradient, with the same settings,
            to a gradient for each tensor; None for one that has none.

    Call:
        tensors: As `forward` takes them.
        settings: Python values.
        returns: What `forward` gives first.
    """

    def __init__(
        self,
        forward: Callable[..., tuple[tf.Tensor, Tensors]],
        backward: Callable[..., tuple[tf.Tensor | None, ...]],
    ) -> None:
        self.forward, self.backward = fused(forward), fused(backward)

    def __call__(self, *tensors: tf.Tensor, **settings: Any) -> tf.Tensor:
        if is_inferring():
            # A gradient of one's own is saved with a model, and takes a fifth of its load time.
            return self.forward(*tensors, **settings)[0]

        @tf.custom_gradient
        def whole(*tensors: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
            y, others = self.forward(*tensors, **settings)
            return y, lambda upstream: self.backward(*tensors, *others, upstream, **settings)

        return whole(*(tf.convert_to_tensor(tensor) for tensor in tensors))
