"""An encoder that hears audio chunk by chunk."""

from collections.abc import Iterator
from math import prod

import tensorflow as tf

from tfasr.models.acoustic_model import AcousticModel, Block
from tfasr.models.subsampling import SUBSAMPLING

State = dict[str, tf.Tensor]


class StreamingEncoder:
    """Encodes a batch of streams, a chunk of each at a time.

    What it gives over all chunks is what `AcousticModel.encode` gives with the same `chunk`. A
    step takes as long after an hour as at the beginning. All that is remembered between steps
    is in a state, float32 tensors by names that may be those of a signature.

    Args:
        model: A built Conformer that streams.
        chunk: Frames of a chunk, of 40 ms each; a multiple of the blocks' strides.

    Raises:
        ValueError: The model does not stream, `chunk` is below 1, or the strides do not divide
            it.
    """

    def __init__(self, model: AcousticModel, chunk: int) -> None:
        if not model.chunks:
            raise ValueError(
                f"only a model with encoder.streaming.chunks takes steps; got chunks={model.chunks}"
            )
        if chunk < 1:
            raise ValueError(f"the chunk of a step must have at least 1 frame; got chunk={chunk}")
        self.stride = prod(block.stride for block in model.blocks)
        if chunk % self.stride:
            raise ValueError(f"chunk must be a multiple of {self.stride}; got chunk={chunk}")
        self.model = model
        self.chunk = chunk
        # Frames of features that a step takes, and of the encoding that it gives.
        self.num_features = SUBSAMPLING * chunk
        self.num_encoded = chunk // self.stride
        with tf.Graph().as_default():
            self._shapes = {name: tensor.shape[1:] for name, tensor in self.start(1).items()}

    def state_spec(self, batch: int | None = None) -> dict[str, tf.TensorSpec]:
        """Describes the state of so many streams, for a signature; None for any number."""
        return {
            name: tf.TensorSpec([batch, *shape], name=name) for name, shape in self._shapes.items()
        }

    def start(self, batch: tf.Tensor | int) -> State:
        """Returns the state before the first chunk.

        Args:
            batch: Streams B, scalar int32.

        Returns:
            [B, ...] float32 zeros by name.
        """
        model = self.model
        state = _named("subsampling", model.subsampling.start(batch, model.num_mels))
        for block, rate in self._blocks():
            state |= _named(block.name, block.start(batch, model.left_context // rate))
        return {**state, "heard": tf.zeros([batch])}

    def step(
        self, features: tf.Tensor, num_frames: tf.Tensor, state: State
    ) -> tuple[tf.Tensor, tf.Tensor, State]:
        """Encodes the next chunk.

        Args:
            features: [B, 4 C, F] float, normalised.
            num_frames: [B] int32, real frames: all 4 C until a stream ends, then what is left
                of it, and 0 in the steps of a batch in which others go on.
            state: As `start` or the last step gave it.

        Returns:
            [B, C', D], C' being C over the blocks' strides; [B] int32, real frames of those;
            and the state after the chunk.

        Raises:
            ValueError: The features are not of 4 C frames, or the state is of another model or
                another number of streams.
        """
        self._check(features, state)
        model, heard = self.model, state["heard"]
        mask = tf.sequence_mask(num_frames, self.num_features)
        x, after = model.subsampling.step(features, mask, _of("subsampling", state))
        next_state = _named("subsampling", after)
        mask = tf.sequence_mask(model.subsampling.num_frames(num_frames), self.chunk)
        next_state["heard"] = heard + tf.reduce_sum(tf.cast(mask, tf.float32), 1)
        for block, rate in self._blocks():
            x, after = block.step(x, mask, tf.math.ceil(heard / rate), _of(block.name, state))
            next_state |= _named(block.name, after)
            mask = block.compute_mask(x, mask)
        next_state = {name: tf.cast(next_state[name], tf.float32) for name in state}
        return model.conclude(x, mask), tf.reduce_sum(tf.cast(mask, tf.int32), 1), next_state

    def _blocks(self) -> Iterator[tuple[Block, int]]:
        """Yields each block and how many of the first block's frames one of its own stands for."""
        rate = 1
        for block in self.model.blocks:
            rate *= block.stride
            yield block, rate

    def _check(self, features: tf.Tensor, state: State) -> None:
        wanted = [None, self.num_features, self.model.num_mels]
        if not features.shape.is_compatible_with(wanted):
            raise ValueError(
                f"a step of chunk={self.chunk} takes features of [B, {wanted[1]}, {wanted[2]}]; "
                f"got {features.shape}"
            )
        if other := sorted(self._shapes.keys() ^ state.keys()):
            which = "another" if other[0] in state else "no"
            raise ValueError(f"the state must be of this model; got {which} tensor {other[0]}")
        for name, spec in self.state_spec(features.shape[0]).items():
            if not state[name].shape.is_compatible_with(spec.shape):
                raise ValueError(
                    "the state must be of this model and of as many streams as the features; "
                    f"got {name} of {state[name].shape}, not {spec.shape}"
                )


def _named(owner: str, state: State) -> State:
    return {f"{owner}_{name}": tensor for name, tensor in state.items()}


def _of(owner: str, state: State) -> State:
    return {
        name.removeprefix(f"{owner}_"): tensor
        for name, tensor in state.items()
        if name.startswith(f"{owner}_")
    }
