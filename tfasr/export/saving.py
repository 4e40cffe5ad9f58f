"""Writes a SavedModel whose functions compute nothing twice."""

from collections.abc import Container
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import fingerprinting_utils

from tfasr.artifacts.files import write_bytes


def save_signatures(module: tf.Module, folder: Path, signatures: dict[str, Any]) -> None:
    """Saves a module with its signatures, each operation of a function once.

    Traced code asks again and again for the same constants and sizes, which make up half of a
    model's operations; loading it and its first call take time for each. TensorFlow's own
    optimiser would join them too, and rewrite and rename loops with it.

    Args:
        module: What is saved.
        folder: Where to; made if there is none.
        signatures: Concrete functions by their names.
    """
    tf.saved_model.save(module, str(folder), signatures=signatures)
    path = folder / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        objects = graph.object_graph_def.nodes
        # Loading looks for these by their names.
        captured = {node.captured_tensor.name.partition(":")[0] for node in objects}
        for function in graph.graph_def.library.function:
            join_equal_operations(function, captured)
    write_bytes(path, saved.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))


def join_equal_operations(function: FunctionDef, kept: Container[str] = ()) -> None:
    """Leaves the first of operations that have no state, and equal attributes and inputs.

    Args:
        function: Is changed in place. What reads an operation that stands behind it is not
            joined with its equals, which does no harm.
        kept: Names of operations that are not joined with those before them.
    """
    first: dict[bytes, str] = {}
    joined: dict[str, str] = {}
    for node in function.node_def:
        _rename_inputs(node, joined)
        if not _is_stateful(node) and node.name not in kept:
            name = first.setdefault(_value(node), node.name)
            if name != node.name:
                joined[node.name] = name
    left = FunctionDef(node_def=[node for node in function.node_def if node.name not in joined])
    for node in left.node_def:
        _rename_inputs(node, joined)
    function.ClearField("node_def")
    function.node_def.extend(left.node_def)
    for results in (function.ret, function.control_ret):
        for key, name in list(results.items()):
            results[key] = _renamed(name, joined)


def _rename_inputs(node: NodeDef, joined: dict[str, str]) -> None:
    node.input[:] = [_renamed(name, joined) for name in node.input]


def _renamed(name: str, joined: dict[str, str]) -> str:
    """Names an input anew; it is "node:output:index", "^node", or the function's own argument."""
    control = "^" if name.startswith("^") else ""
    node, *rest = name.removeprefix("^").split(":")
    return control + ":".join([joined.get(node, node), *rest])


def _is_stateful(node: NodeDef) -> bool:
    # A call of another function has no definition among the operations.
    definition = op_def_registry.get(node.op)
    return definition is None or definition.is_stateful


def _value(node: NodeDef) -> bytes:
    """All that says what an operation gives."""
    nameless = NodeDef()
    nameless.CopyFrom(node)
    nameless.ClearField("name")
    nameless.ClearField("experimental_debug_info")
    return bytes(nameless.SerializeToString(deterministic=True))
