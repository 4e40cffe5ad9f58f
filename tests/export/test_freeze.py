import numpy as np
import pytest
import tensorflow as tf

from tfasr.export.freeze import freeze_block


@pytest.fixture
def model(tiny_run):
    return tiny_run.trained_model()


def test_a_frozen_block_has_no_variables_and_the_others_have_theirs(model):
    freeze_block(model.blocks[1])
    blocks = [
        [v for module in (block, *block.submodules) for v in vars(module).values()]
        for block in model.blocks
    ]
    held = [sum(isinstance(value, tf.Variable) for value in values) for values in blocks]
    assert held[0] > 20
    assert held[1] == 0


def test_a_frozen_block_gives_what_it_gave(model, noise):
    x, mask = noise(2, 9, 16), np.arange(9) < np.array([[9], [5]])
    before = model.blocks[1](x, mask=mask).numpy()
    freeze_block(model.blocks[1])
    np.testing.assert_array_equal(model.blocks[1](x, mask=mask), before)


def test_a_graph_of_a_frozen_block_captures_no_variable(model):
    def captures(block):
        function = tf.function(lambda x: block(x), autograph=False).get_concrete_function(
            tf.TensorSpec([None, None, 16])
        )
        return len(function.variables)

    freeze_block(model.blocks[1])
    assert captures(model.blocks[0]) > 20
    assert captures(model.blocks[1]) == 0
