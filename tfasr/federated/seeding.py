"""Blocks that travel as the seed that they were drawn from."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfasr.configs.seeds import counted_seed
from tfasr.models.initialization import drawn_value
from tfasr.models.layout import Entry

# Of a block: two int32 of its seed, and a fingerprint of 64 bits.
BYTES_OF_A_SEED = 16


class SeededBlocks:
    """Blocks drawn anew from counted seeds, the same on the server and at every client.

    Args:
        entries: Of the full model, in layout order.
        blocks: Those that are seeded.
        seed: The run's seed.

    Source: "Ambient layers", section 3.1: "random seeds can be transported instead of layer
    parameters for the most ambient layers".
    """

    def __init__(self, entries: Sequence[Entry], blocks: Sequence[int], seed: int) -> None:
        self.blocks = tuple(blocks)
        self.entries = {
            place: entry for place, entry in enumerate(entries) if entry.block in self.blocks
        }
        self._seeds = [counted_seed(seed, "seeded_block", block) for block in self.blocks]

    def seeds(self) -> tf.Tensor:
        """What travels: [S, 2] int32 for S blocks."""
        return tf.constant(self._seeds, tf.int32, [len(self.blocks), 2])

    def draw(self, seeds: tf.Tensor) -> dict[int, tf.Tensor]:
        """Draws the blocks.

        Args:
            seeds: [S, 2] int32.

        Returns:
            Weights by place in the layout, from the distribution of the first ones.
        """
        return {
            place: drawn_value(
                entry,
                tf.random.experimental.stateless_fold_in(
                    seeds[self.blocks.index(entry.block)], place
                ),
            )
            for place, entry in self.entries.items()
        }

    def fingerprints(self, values: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """Hashes each block's values.

        Args:
            values: By place in the layout.

        Returns:
            [S, 8] uint8.
        """
        rows = [
            tf.concat(
                [
                    tf.reshape(values[place], [-1])
                    for place, entry in self.entries.items()
                    if entry.block == block
                ],
                0,
            )
            for block in self.blocks
        ]
        hashes = [tf.raw_ops.Fingerprint(data=row[None], method="farmhash64") for row in rows]
        return tf.concat([tf.zeros([0, 8], tf.uint8), *hashes], 0)

    def draw_checked(self, seeds: tf.Tensor, fingerprints: tf.Tensor) -> dict[int, tf.Tensor]:
        """Draws the blocks and compares them with the server's.

        Args:
            seeds: [S, 2] int32.
            fingerprints: [S, 8] uint8, of the server's blocks.

        Returns:
            As `draw`.

        Raises:
            tf.errors.InvalidArgumentError: They differ.
        """
        values = self.draw(seeds)
        check = tf.debugging.assert_equal(
            self.fingerprints(values),
            fingerprints,
            "blocks drawn from a seed must be the server's; the machines draw different numbers, "
            "or the server's blocks were changed. Use plan.chosen=freeze",
        )
        with tf.control_dependencies([] if check is None else [check]):
            return {place: tf.identity(value) for place, value in values.items()}
