import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.saved_model import fingerprinting_utils

from tfasr.export.saving import save_signatures


def made():
    """A module with a counter, and what asks for the same sizes twice, counts, and draws twice."""
    module = tf.Module()
    module.calls = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def rows(x):
        inner = tf.reshape(x, [tf.shape(x)[0], 2, 2])
        halves = tf.reshape(x + 1.0, [tf.shape(x)[0], 2, 2])
        before = module.calls.read_value()
        module.calls.assign_add(1.0)
        return {
            "sum": inner + halves,
            "before": before,
            "after": module.calls.read_value(),
            "draws": tf.random.uniform([64], seed=1) + tf.random.uniform([64], seed=1),
        }

    return module, {"serving_default": rows.get_concrete_function()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "1"
    module, signatures = made()
    save_signatures(module, path, signatures)
    return path


def operations(folder):
    [graph] = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    [found] = [f for f in graph.graph_def.library.function if "rows" in f.signature.name]
    return [node.op for node in found.node_def]


def test_an_operation_of_equal_inputs_is_there_once(folder, tmp_path):
    module, signatures = made()
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    plain, shared = operations(tmp_path), operations(folder)
    assert plain.count("Shape") == 2
    assert plain.count("StridedSlice") == 2
    assert shared.count("Shape") == 1
    assert shared.count("StridedSlice") == 1
    assert plain.count("Const") > shared.count("Const")


def test_values_are_those_of_the_module(folder):
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    first, second = loaded(x=tf.constant(x)), loaded(x=tf.constant(x))
    np.testing.assert_array_equal(first["sum"], (2 * x + 1).reshape(2, 2, 2))
    assert [float(each["before"]) for each in (first, second)] == [0.0, 1.0]
    assert [float(each["after"]) for each in (first, second)] == [1.0, 2.0]


def test_what_draws_is_not_joined(folder):
    assert operations(folder).count("RandomUniform") == 2


def test_the_fingerprint_is_of_the_file_that_is_there(folder):
    kept = tf.saved_model.experimental.read_fingerprint(str(folder))
    fingerprinting_utils.write_fingerprint(str(folder))
    assert tf.saved_model.experimental.read_fingerprint(str(folder)) == kept
