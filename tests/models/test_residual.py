import keras
import numpy as np
import pytest

from tfasr.models.feed_forward import FeedForward
from tfasr.models.residual import AfterNorm, deep_norm_factors, form_of, without_norm


@pytest.mark.parametrize(
    ("blocks", "paper", "release"),
    [(12, 1.6147, 1.9203), (17, 1.7616, 2.0950), (50, 2.3070, 2.7435), (100, 2.7435, 3.2626)],
)
def test_alpha_is_that_of_the_paper_or_of_its_release(blocks, paper, release):
    # Of section 3.2 with three decoder blocks; the release doubles the encoder's blocks.
    np.testing.assert_allclose(deep_norm_factors(blocks, 3)[0], paper, atol=5e-5)
    np.testing.assert_allclose(deep_norm_factors(blocks, 3, "release")[0], release, atol=5e-5)


def test_beta_is_the_inverse_power_of_the_same_product_by_hand():
    # 8^4 * 16 = 2^16.
    alpha, beta = deep_norm_factors(8, 16)
    np.testing.assert_allclose([alpha, beta], [0.81 * 2, 0.87 / 2], rtol=1e-12)


def test_without_a_decoder_it_counts_as_one_block():
    assert deep_norm_factors(8, 0) == deep_norm_factors(8, 1)


def test_an_unknown_residual_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"one of pre_norm, .*; got residual='none'"):
        form_of("none")


def test_a_module_without_its_norm_has_no_weights_for_one(noise):
    module, x = without_norm(FeedForward(3)), noise(1, 2, 4)
    module(x)
    assert [weight.name.split("/")[-2] for weight in module.weights] == ["up"] * 2 + ["down"] * 2
    expected = module.down(keras.activations.swish(module.up(x)))
    np.testing.assert_allclose(module(x), expected, atol=1e-6)


def test_a_norm_after_the_blocks_by_hand():
    # Mean 4, variance 5.
    out = AfterNorm(epsilon=0.0)(np.array([[[1.0, 3.0, 5.0, 7.0]]]), mask=None, seed=None)
    np.testing.assert_allclose(out, [[np.array([-3, -1, 1, 3]) / 5**0.5]], rtol=1e-5)
