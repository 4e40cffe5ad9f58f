"""Blocks whose weights become constants."""

import tensorflow as tf

from tfasr.models.block import ConformerBlock


def freeze_block(block: ConformerBlock) -> None:
    """Puts a constant in the place of each of a block's variables.

    Whatever is traced afterwards holds the values in its graph and captures no variable. The
    block can't be trained any more.
    """
    for module in (block, *block.submodules):
        variables = {k: v for k, v in vars(module).items() if isinstance(v, tf.Variable)}
        # Past Keras, which would have a variable stay one.
        vars(module).update({k: tf.constant(v.numpy()) for k, v in variables.items()})
