"""Tensors of a gRPC request, unpacked with no more memory than they were sent in."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2

from tfasr.serving.inputs import InputError

# Where a message may hold the values of a type, besides `tensor_content`.
_FIELDS = {tf.float32: "float_val", tf.int32: "int_val"}


def audio_of(inputs: Mapping[str, tensor_pb2.TensorProto]) -> list[bytes]:
    """Reads the audio files of a request: "audio", [B] string.

    Raises:
        InputError: It is no such tensor.
    """
    proto = inputs["audio"]
    shape = _shape(proto, "audio", tf.string, rank=1)
    if shape != (len(proto.string_val),):
        raise InputError(f"audio: must hold {shape[0]} values; got {len(proto.string_val)}")
    return list(proto.string_val)


def waveforms_of(
    inputs: Mapping[str, tensor_pb2.TensorProto], sample_rate: int, max_seconds: float
) -> list[NDArray[np.float32]]:
    """Reads the waveforms of a request: "waveforms" [B, T] float and "num_samples" [B] int32.

    Returns:
        The real samples of each, float32 [T'].

    Raises:
        InputError: They are no such tensors, or too long.
    """
    waveforms = _numbers(inputs["waveforms"], "waveforms", tf.float32, rank=2)
    counts = _numbers(inputs["num_samples"], "num_samples", tf.int32, rank=1)
    if len(counts) != len(waveforms):
        raise InputError(
            f"num_samples must have a number for each waveform; got {len(counts)} for "
            f"{len(waveforms)}"
        )
    longest: int = waveforms.shape[1]
    if longest > max_seconds * sample_rate:
        raise InputError(
            f"waveforms: audio must last at most {max_seconds:g} s; "
            f"got {longest / sample_rate:.4g} s"
        )
    for count in counts[(counts < 1) | (counts > longest)]:
        raise InputError(f"num_samples must be in [1, {longest}]; got {count}")
    # Also refuses NaN.
    for sample in waveforms[~(np.abs(waveforms) <= 1)]:
        raise InputError(f"waveforms must be numbers in [-1, 1]; got {sample}")
    return [row[:count] for row, count in zip(waveforms, counts, strict=True)]


def _numbers(
    proto: tensor_pb2.TensorProto, name: str, dtype: tf.DType, *, rank: int
) -> NDArray[Any]:
    shape = _shape(proto, name, dtype, rank=rank)
    kind = dtype.as_numpy_dtype
    if proto.tensor_content:
        if len(proto.tensor_content) % dtype.size:
            raise InputError(f"{name}: tensor_content must hold whole values")
        values = np.frombuffer(proto.tensor_content, kind)
    else:
        values = np.array(getattr(proto, _FIELDS[dtype]), kind)
    # A single value may stand for a whole tensor, of any size: that is refused here too.
    if len(values) != prod(shape):
        raise InputError(f"{name}: must hold {prod(shape)} values; got {len(values)}")
    return values.reshape(shape)


def _shape(
    proto: tensor_pb2.TensorProto, name: str, dtype: tf.DType, *, rank: int
) -> tuple[int, ...]:
    if proto.dtype != dtype.as_datatype_enum:
        raise InputError(f"{name}: must be of dtype {dtype.name}; got number {proto.dtype}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or len(shape) != rank or min(shape) < 0:
        raise InputError(f"{name}: must have {rank} dimensions; got {list(shape)}")
    return shape
