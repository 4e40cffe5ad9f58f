from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import EncoderConfig, ModelConfig, StreamingConfig
from tfasr.configs.seeds import counted_generator
from tfasr.models.building import build_model
from tfasr.models.streaming import StreamingEncoder

CONFIG = ModelConfig(
    encoder=EncoderConfig(
        num_blocks=2,
        dim=8,
        num_heads=2,
        ff_factor=2,
        conv_kernel=4,
        conv_norm="layer",
        norm_groups=2,
        order="convolution_first",
        streaming=StreamingConfig(chunks=(4, 0), left_context=6),
    ),
    num_mels=6,
    vocabulary=5,
)
STACKED = replace(CONFIG, encoder=replace(CONFIG.encoder, stack_at=1))
CUMULATIVE = replace(CONFIG, encoder=replace(CONFIG.encoder, conv_norm="cumulative_group"))


@pytest.fixture(scope="module")
def model_of(with_noise_weights):
    def make(config, precision="float32"):
        model = build_model(config, None, precision)
        return with_noise_weights(model, (None, None, config.num_mels))

    return make


def in_steps(encoder, features, lengths, step=None):
    """Encodings and their counts, and the state after the last chunk."""
    state, encoded, counts = encoder.start(len(features)), [], []
    size = encoder.num_features
    padded = np.pad(features, [(0, 0), (0, -features.shape[1] % size), (0, 0)])
    for first in range(0, padded.shape[1], size):
        left = np.clip(np.array(lengths) - first, 0, size).astype(np.int32)
        chunk = tf.constant(padded[:, first : first + size])
        out, count, state = (step or encoder.step)(chunk, tf.constant(left), state)
        encoded.append(tf.cast(out, tf.float32))
        counts.append(count)
    return np.concatenate(encoded, 1), np.sum(counts, 0), state


def assert_steps_are_the_whole(model, chunk, features, lengths, tolerance=1e-5):
    whole, _ = model.encode(features, tf.constant(lengths), chunk=chunk)
    whole = tf.cast(whole, tf.float32)
    steps, counts, _ = in_steps(StreamingEncoder(model, chunk), features, lengths)
    assert counts.tolist() == model.encoded_frames(tf.constant(lengths)).numpy().tolist()
    for row, count in enumerate(counts):
        where = f"chunk {chunk}, row {row} of lengths {lengths}"
        np.testing.assert_allclose(
            steps[row, :count], whole[row, :count], atol=tolerance, err_msg=where
        )


@pytest.mark.parametrize("conv_norm", ["layer", "cumulative_group"])
@pytest.mark.parametrize("stack_at", [None, 0, 1])
def test_steps_of_any_chunk_are_the_whole_utterance(model_of, noise, conv_norm, stack_at):
    encoder = replace(CONFIG.encoder, conv_norm=conv_norm, stack_at=stack_at)
    model = model_of(replace(CONFIG, encoder=encoder))
    generator = counted_generator(0, "lengths", conv_norm, str(stack_at))
    for chunk in range(1, 9) if stack_at is None else range(2, 9, 2):
        # One ends within its first chunk, and none needs to end with one, or with a group of four.
        lengths = [*map(int, generator.integers(1, 50, 3)), int(generator.integers(1, 4 * chunk))]
        features = noise(4, max(lengths), 6, seed=chunk)
        assert_steps_are_the_whole(model, chunk, features, lengths)


@pytest.mark.parametrize(
    ("residual", "order"),
    [
        ("post_norm", "convolution_first"),
        ("deep_norm", "attention_first"),
        ("deep_norm_mixture", "convolution_first"),
        ("deep_norm_release", "attention_first"),
    ],
)
def test_every_residual_and_order_can_be_stepped(model_of, noise, residual, order):
    encoder = replace(STACKED.encoder, residual=residual, order=order, after_norm=True)
    model = model_of(replace(STACKED, encoder=encoder))
    assert_steps_are_the_whole(model, 4, noise(2, 41, 6), [41, 19])


@pytest.mark.parametrize(("left_context", "kernel"), [(0, 4), (2, 1), (40, 9)])
def test_context_may_be_none_or_longer_than_the_utterance(model_of, noise, left_context, kernel):
    streaming = StreamingConfig(chunks=(2,), left_context=left_context)
    encoder = replace(CUMULATIVE.encoder, streaming=streaming, conv_kernel=kernel)
    model = model_of(replace(CUMULATIVE, encoder=encoder))
    assert_steps_are_the_whole(model, 2, noise(2, 37, 6), [37, 22])


def test_bfloat16_steps_are_the_whole_to_its_precision_with_a_float32_state(model_of, noise):
    policy = keras.mixed_precision.global_policy()
    model = model_of(CUMULATIVE, "mixed_bfloat16")
    # Eight bits, over the roundings of two blocks, of values up to 1.
    assert_steps_are_the_whole(model, 2, noise(2, 37, 6), [37, 22], tolerance=0.03)
    _, _, state = in_steps(StreamingEncoder(model, 2), noise(1, 16, 6), [16])
    assert {tensor.dtype for tensor in state.values()} == {tf.float32}
    assert keras.mixed_precision.global_policy() is policy


def test_a_state_is_as_large_after_many_steps_as_before(model_of, noise):
    encoder = StreamingEncoder(model_of(STACKED), 2)
    step = tf.function(encoder.step, autograph=False)
    start = encoder.start(1)
    _, _, after = in_steps(encoder, noise(1, 1600, 6), [1600], step)
    assert {name: t.shape for name, t in after.items()} == {n: t.shape for n, t in start.items()}
    assert after["heard"].numpy() == [400]


def test_a_state_begins_with_zeros_of_what_each_part_remembers(model_of):
    state = StreamingEncoder(
        model_of(replace(STACKED, encoder=replace(STACKED.encoder, conv_norm="cumulative_group"))),
        2,
    ).start(3)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "subsampling_features": (3, 1, 6),
        "subsampling_halved": (3, 1, 3, 8),
        **{f"block_{b}_inputs": (3, 3, 8) for b in (0, 1)},
        **{f"block_{b}_{name}": (3, 2) for b in (0, 1) for name in ("mean", "variance")},
        # Six frames of context, of which the second block has half.
        **{f"block_0_{name}": (3, 2, 6, 4) for name in ("keys", "values")},
        **{f"block_1_{name}": (3, 2, 3, 4) for name in ("keys", "values")},
        "heard": (3,),
    }
    assert not any(np.any(tensor) for tensor in state.values())


def test_a_row_s_stream_does_not_depend_on_the_others(model_of, noise):
    encoder = StreamingEncoder(model_of(CUMULATIVE), 2)
    features = noise(3, 24, 6)
    together, _, _ = in_steps(encoder, features, [24, 5, 24])
    alone, _, _ = in_steps(encoder, features[2:], [24])
    np.testing.assert_allclose(together[2:], alone, atol=1e-5)


@pytest.fixture(scope="module")
def exported(model_of, tmp_path_factory):
    """An encoder for one stream, and the SavedModel whose signature is its step."""
    encoder = StreamingEncoder(
        model_of(replace(STACKED, encoder=replace(STACKED.encoder, conv_norm="cumulative_group"))),
        2,
    )
    features = tf.TensorSpec([1, 8, 6], name="features")
    counts = tf.TensorSpec([1], tf.int32, name="num_frames")

    @tf.function(input_signature=[features, counts, encoder.state_spec(1)], autograph=False)
    def step(features, num_frames, state):
        encoded, num_encoded, after = encoder.step(features, num_frames, state)
        return {"encoded": encoded, "num_encoded": num_encoded, **after}

    module = tf.Module()
    module.weights, module.step = encoder.model.weights, step
    folder = tmp_path_factory.mktemp("exported")
    tf.saved_model.save(module, str(folder), {"step": step.get_concrete_function()})
    return encoder, folder


def steps_of(signature):
    """Makes a signature a step."""

    def step(features, num_frames, state):
        outputs = signature(features=features, num_frames=num_frames, **state)
        after = {name: outputs[name] for name in state}
        return outputs["encoded"], outputs["num_encoded"], after

    return step


def test_a_step_is_a_signature_of_a_saved_model(exported, noise):
    encoder, folder = exported
    signature = tf.saved_model.load(str(folder)).signatures["step"]
    features = noise(1, 37, 6)
    ours, theirs = (in_steps(encoder, features, [37], step) for step in (None, steps_of(signature)))
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-5)
    assert theirs[1] == ours[1]


def test_a_step_runs_in_lite_rt_with_its_own_operations(exported, noise):
    encoder, folder = exported
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["step"])
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    signature = interpreter.get_signature_runner("step")
    features = noise(1, 37, 6)
    ours, theirs = (in_steps(encoder, features, [37], step) for step in (None, steps_of(signature)))
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-5)
    assert theirs[1] == ours[1]


@pytest.mark.parametrize(
    ("config", "chunk", "message"),
    [
        (CONFIG, 0, "must have at least 1 frame; got chunk=0"),
        (STACKED, 3, "chunk must be a multiple of 2; got chunk=3"),
        (
            replace(CONFIG, encoder=replace(CONFIG.encoder, streaming=StreamingConfig())),
            2,
            r"only a model with encoder.streaming.chunks takes steps; got chunks=\(\)",
        ),
    ],
)
def test_chunks_and_models_that_cannot_be_stepped_are_named(config, chunk, message):
    with pytest.raises(ValueError, match=message):
        StreamingEncoder(build_model(config), chunk)


def without_heard(state):
    return {name: tensor for name, tensor in state.items() if name != "heard"}


@pytest.mark.parametrize(
    ("features", "state_of", "message"),
    [
        ((2, 7, 6), lambda state: state, r"chunk=2 takes features of \[B, 8, 6\]; got \(2, 7, 6\)"),
        ((2, 8, 5), lambda state: state, r"features of \[B, 8, 6\]; got \(2, 8, 5\)"),
        (
            (3, 8, 6),
            lambda state: state,
            r"got subsampling_features of \(2, 1, 6\), not \(3, 1, 6\)",
        ),
        ((2, 8, 6), without_heard, "must be of this model; got no tensor heard"),
        (
            (2, 8, 6),
            lambda state: {**state, "block_2_keys": state["block_1_keys"]},
            "must be of this model; got another tensor block_2_keys",
        ),
        (
            (2, 8, 6),
            lambda state: {**state, "block_1_keys": tf.zeros([2, 2, 8, 4])},
            r"got block_1_keys of \(2, 2, 8, 4\), not \(2, 2, 6, 4\)",
        ),
    ],
)
def test_features_and_states_of_another_kind_are_named(noise, features, state_of, message):
    encoder = StreamingEncoder(build_model(CONFIG), 2)
    with pytest.raises(ValueError, match=message):
        encoder.step(tf.zeros(features), tf.fill(features[:1], 8), state_of(encoder.start(2)))
