"""Blocks that are computed twice in a training step, rather than keep what they computed."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf


def recomputed(block: keras.layers.Layer, x: tf.Tensor, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Calls a block that keeps only what it is given, and is computed anew for its gradient.

    In a graph, all blocks alike call the same two functions, each with its own variables. So a
    hundred of them are traced, optimised and held as one is, and nothing of a block is computed
    before its turn. Other optimisations apply within a function: of what is mathematically the
    same, the last bits may differ.

    Args:
        block: Built. Its configuration, its variables and what it is given decide what it
            gives; its variables do not change meanwhile.
        x: [B, T, D] float.
        inputs: What else it is given, by name, with "seed" for both computations to draw alike;
            has no gradient.

    Returns:
        What the block gives.

    Raises:
        ValueError: The block reads a variable or a tensor of somebody else.

    Source: Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost", section 3.
    """
    if tf.executing_eagerly():
        return _called_eagerly(block, x, inputs)
    functions = _functions_of(block, x, inputs)
    handles = [variable.handle for variable in block.variables]

    # The weights are given for their gradients only; the functions read them by their handles.
    @tf.custom_gradient
    def kept(x: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            return functions.backward([x, *inputs.values(), upstream], handles)

        [y] = functions.forward([x, *inputs.values()], handles)
        return y, gradient

    return kept(x, *(variable.read_value() for variable in block.trainable_variables))


def _called_eagerly(
    block: keras.layers.Layer, x: tf.Tensor, inputs: dict[str, tf.Tensor]
) -> tf.Tensor:
    @tf.custom_gradient
    def kept(x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        def gradient(upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            of_x, *of_variables = _gradients(block, x, inputs, upstream, variables)
            return of_x, of_variables

        return block(x, **inputs), gradient

    return kept(x)


def _gradients(
    block: keras.layers.Layer,
    x: tf.Tensor,
    inputs: dict[str, tf.Tensor],
    upstream: tf.Tensor,
    variables: Sequence[tf.Variable],
) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x, **inputs)
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(y, [x, *variables], upstream, unconnected_gradients=zero)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


class _Function:
    """A traced function that any block may call which is like the one it was traced with.

    Args:
        call: From tensors to tensors; reads variables of `block` only.
        arguments: Shapes and types of what it takes.
        block: The block it is traced with.
    """

    def __init__(
        self,
        call: Callable[..., list[tf.Tensor]],
        arguments: Sequence[tf.TensorSpec],
        block: keras.layers.Layer,
    ) -> None:
        # Were it inlined, the graph would hold as many copies of it as there are blocks.
        self.traced = tf.function(
            call, arguments, autograph=False, experimental_attributes={"_noinline": True}
        ).get_concrete_function()
        self.outputs = self.traced.outputs
        places = {variable.handle.ref(): n for n, variable in enumerate(block.variables)}
        for tensor in self.traced.captured_inputs:
            if tensor.ref() not in places:
                raise ValueError(
                    "a recomputed block must read what it is given and its own variables only; "
                    f"got block={block.name}, which reads {tensor}"
                )
        self.places = [places[tensor.ref()] for tensor in self.traced.captured_inputs]

    def __call__(
        self, arguments: Sequence[tf.Tensor], handles: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        results: list[tf.Tensor] = tf.raw_ops.StatefulPartitionedCall(
            args=[*arguments, *(handles[place] for place in self.places)],
            Tout=[output.dtype for output in self.outputs],
            f=self.traced,
        )
        for result, output in zip(results, self.outputs, strict=True):
            result.set_shape(output.shape)
        return results


class _Functions:
    """What a block gives, and its gradients.

    Args:
        block: The block that they are traced with.
        x: What it is given.
        inputs: What else it is given.
    """

    def __init__(
        self, block: keras.layers.Layer, x: tf.Tensor, inputs: dict[str, tf.Tensor]
    ) -> None:
        given = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in (x, *inputs.values())]

        def forward(x: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
            return [block(x, **dict(zip(inputs, others, strict=True)))]

        def backward(x: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
            named = dict(zip(inputs, others[:-1], strict=True))
            return _gradients(block, x, named, others[-1], block.trainable_variables)

        self.forward = _Function(forward, given, block)
        [y] = self.forward.outputs
        self.backward = _Function(backward, [*given, tf.TensorSpec(y.shape, y.dtype)], block)


# The functions that a graph calls, by what makes blocks alike.
_FUNCTIONS: WeakKeyDictionary[tf.Graph, dict[tuple[Any, ...], _Functions]] = WeakKeyDictionary()


def _functions_of(
    block: keras.layers.Layer, x: tf.Tensor, inputs: dict[str, tf.Tensor]
) -> _Functions:
    known = _FUNCTIONS.setdefault(tf.compat.v1.get_default_graph(), {})
    trained = {variable.ref() for variable in block.trainable_variables}
    kind = (
        type(block),
        str({**block.get_config(), "name": ""}),
        # By name, for which of two like variables comes first depends on which is frozen.
        *(
            (variable.name.split(f"{block.name}/")[-1], variable.shape, variable.ref() in trained)
            for variable in block.variables
        ),
        *((name, str(tensor.shape), tensor.dtype) for name, tensor in {"": x, **inputs}.items()),
    )
    if kind not in known:
        known[kind] = _Functions(block, x, inputs)
    return known[kind]
