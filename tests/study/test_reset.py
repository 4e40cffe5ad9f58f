import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import StreamingConfig, TransducerConfig
from tfasr.data.pipelines import evaluation_batches
from tfasr.evaluation.error_rates import count_word_errors
from tfasr.evaluation.transcription import model_transcriber, transcribe_batches
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.reset import FIRST_WEIGHTS, ResetStudy, study_reset
from tfasr.study.resets import Reset


@pytest.fixture(scope="module")
def batches(tiny_data, tiny_run):
    durations = tiny_data.durations("valid")
    data = evaluation_batches(
        tiny_data.source("valid"), durations, extractor=tiny_run.extractor, batch_seconds=2.0
    )
    return list(data)


@pytest.fixture(scope="module")
def model(tiny_run):
    return tiny_run.trained_model()


@pytest.fixture(scope="module")
def begun(tiny_run, model, batches):
    return ResetStudy(model, tiny_run.tokenizer.pieces, tiny_run.config.seed, batches)


@pytest.fixture
def study(begun):
    """A study that has reset nothing yet; tracing one takes a second, so all share its graphs."""
    study = copy.copy(begun)
    study._batches = [copy.copy(batch) for batch in begun._batches]
    return study


@pytest.fixture(scope="module")
def naive_errors(tiny_run, batches):
    """Resets a block of a model of its own, and evaluates the whole model."""
    other = tiny_run.trained_model()
    trained = other.get_weights()
    transcribe = model_transcriber(other, tiny_run.tokenizer.pieces)

    @functools.cache
    def evaluate(blocks=(), draw=0, module=None):
        other.set_weights(trained)
        for block in blocks:
            initialize(Layout(other).of_block(block, module), tiny_run.config.seed, draw)
        heard = transcribe_batches(transcribe, batches)
        return count_word_errors([h.reference for h in heard], [h.text for h in heard]).errors

    return evaluate


def test_the_model_babbles_so_that_errors_mean_something(naive_errors, study):
    assert len(set(naive_errors().tolist())) > 1
    assert (
        naive_errors((0,), 1).tolist() != naive_errors((1,), 1).tolist() != naive_errors().tolist()
    )


def test_words_are_those_of_the_references(study):
    assert sorted(study.words().tolist()) == [2, 2, 2, 3, 3, 3]


def test_no_reset_is_a_plain_evaluation(study, naive_errors):
    np.testing.assert_array_equal(study.intact_errors(), naive_errors())


def test_each_reset_is_an_evaluation_of_the_model_with_that_block_reset(study, naive_errors):
    for block in (0, 1):
        for draw in (FIRST_WEIGHTS, 1, 2):
            ours = study.errors(Reset((block,)), draw)
            np.testing.assert_array_equal(
                ours, naive_errors((block,), draw), err_msg=f"{block} {draw}"
            )


def test_the_intact_model_is_evaluated_at_any_time(study, naive_errors):
    study.errors(Reset((1,)), 1)
    np.testing.assert_array_equal(study.intact_errors(), naive_errors())


def test_the_weights_are_as_before(study, model):
    before = weights_hash(study.layout)
    study_reset(study, Reset((0,)), seeds=[1])
    study_reset(study, Reset((1,)), seeds=[1])
    assert weights_hash(Layout(model)) == before


def test_the_weights_are_as_before_even_when_the_evaluation_fails(tiny_run, model, batches):
    before = weights_hash(Layout(model))
    study = ResetStudy(model, ["a piece of many"], tiny_run.config.seed, batches)
    with pytest.raises(tf.errors.InvalidArgumentError):
        study.errors(Reset((0,)), 1)
    assert weights_hash(Layout(model)) == before


def test_a_block_is_studied_with_its_first_weights_and_fresh_ones(study, naive_errors):
    errors = study_reset(study, Reset((1,)), seeds=[1, 2])
    np.testing.assert_array_equal(errors.reinitialised, naive_errors((1,), 0))
    np.testing.assert_array_equal(
        errors.rerandomised, [naive_errors((1,), 1), naive_errors((1,), 2)]
    )


def test_a_lower_block_is_studied_after_a_higher_one(study, naive_errors):
    study.errors(Reset((1,)), 1)
    np.testing.assert_array_equal(study.errors(Reset((0,)), 1), naive_errors((0,), 1))


def test_blocks_are_reset_together(study, naive_errors):
    np.testing.assert_array_equal(study.errors(Reset((0, 1)), 2), naive_errors((0, 1), 2))


@pytest.mark.parametrize("module", ["attention", "feed_forward_2", "convolution"])
def test_a_module_is_reset_alone(study, naive_errors, module):
    ours = study.errors(Reset((1,), module), 1)
    np.testing.assert_array_equal(ours, naive_errors((1,), 1, module))


def test_a_streaming_transducer_is_studied_as_it_hears(tiny_run, batches, noise):
    encoder = replace(
        tiny_run.model_config.encoder,
        num_blocks=3,
        conv_norm="layer",
        stack_at=1,
        streaming=StreamingConfig(chunks=(2,), left_context=2),
    )
    transducer = TransducerConfig(units=5, embedding_dim=4, joint_dim=6)
    config = replace(tiny_run.model_config, encoder=encoder, transducer=transducer, ctc=False)
    model = build_model(config)
    initialize(Layout(model), 0)
    output = model.joint.output_dense
    output.kernel.assign(5 * noise(*output.kernel.shape))
    study = ResetStudy(model, tiny_run.tokenizer.pieces, 0, batches)
    heard = transcribe_batches(model_transcriber(model, tiny_run.tokenizer.pieces), batches)
    expected = count_word_errors([h.reference for h in heard], [h.text for h in heard]).errors
    assert any(h.text for h in heard)
    study.errors(Reset((2,)), 1)
    np.testing.assert_array_equal(study.intact_errors(), expected)
