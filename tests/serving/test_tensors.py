import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from tfasr.serving.inputs import InputError
from tfasr.serving.tensors import audio_of, waveforms_of

NUM_SAMPLES = tf.make_tensor_proto(np.array([2, 1], np.int32))
WAVEFORMS = tf.make_tensor_proto(np.array([[0.5, -1.0], [0.25, 0.0]], np.float32))


def waves(waveforms=WAVEFORMS, num_samples=NUM_SAMPLES):
    found = waveforms_of({"waveforms": waveforms, "num_samples": num_samples}, 8000, 2.0)
    return [row.tolist() for row in found]


def floats(values, *shape):
    proto = tensor_pb2.TensorProto(dtype=1, float_val=values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def test_audio_is_read_as_it_was_sent():
    proto = tf.make_tensor_proto(np.array([b"a", b""], object))
    assert audio_of({"audio": proto}) == [b"a", b""]


def test_real_samples_are_read_from_content_and_from_values():
    assert waves() == [[0.5, -1.0], [0.25]]
    assert waves(floats([0.5, -1.0, 0.25, 0.0], 2, 2)) == [[0.5, -1.0], [0.25]]


@pytest.mark.parametrize(
    ("waveforms", "num_samples", "message"),
    [
        (floats([0.5], 2**40, 2**20), NUM_SAMPLES, "must hold .* values; got 1"),
        (floats([0.5], 1), NUM_SAMPLES, "waveforms: must have 2 dimensions"),
        (floats([], -1, -1), NUM_SAMPLES, "waveforms: must have 2 dimensions"),
        (NUM_SAMPLES, NUM_SAMPLES, "waveforms: must be of dtype float32; got number 3"),
        (floats([np.nan, 0.0], 2, 1), NUM_SAMPLES, "num_samples must be in"),
        (floats([0.1, np.nan, 0.0, 0.0], 2, 2), NUM_SAMPLES, r"in \[-1, 1\]; got nan"),
        (floats([0.1, 7.0, 0.0, 0.0], 2, 2), NUM_SAMPLES, r"in \[-1, 1\]; got 7"),
        (floats([0.1, 0.1], 1, 2), NUM_SAMPLES, "a number for each waveform; got 2 for 1"),
        (WAVEFORMS, WAVEFORMS, "num_samples: must be of dtype int32"),
        (WAVEFORMS, tf.make_tensor_proto(np.array([2, 3], np.int32)), "got 3"),
        (
            tf.make_tensor_proto(np.zeros((2, 16001), np.float32)),
            NUM_SAMPLES,
            "at most 2 s; got 2 s",
        ),
        (
            tensor_pb2.TensorProto(
                dtype=1, tensor_content=b"abc", tensor_shape=WAVEFORMS.tensor_shape
            ),
            NUM_SAMPLES,
            "whole values",
        ),
    ],
)
def test_waveforms_that_break_a_rule_are_named(waveforms, num_samples, message):
    with pytest.raises(InputError, match=message):
        waves(waveforms, num_samples)


def test_one_file_does_not_stand_for_many():
    proto = tensor_pb2.TensorProto(dtype=7, string_val=[b"a"])
    proto.tensor_shape.dim.add(size=2**50)
    with pytest.raises(InputError, match="audio: must hold 1125899906842624 values; got 1"):
        audio_of({"audio": proto})
