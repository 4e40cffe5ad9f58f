import numpy as np
import pytest
import scipy.stats

from tfasr.models.churn import Churn
from tfasr.study.comparison import (
    Studied,
    agreement,
    agreement_with_last,
    by_correlation,
    correlate_churn,
    correlate_churn_with_blocks,
    correlate_signal,
    families,
    kendall,
    of_two_sets,
    spearman,
    stability,
)
from tfasr.study.signals import Signal


@pytest.fixture(scope="module")
def studied(make_ranking):
    def make(*penalties, family="small", seed=0, **others):
        return Studied(family=family, seed=seed, ranking=make_ranking(*penalties, **others))

    return make


def signal(*values, name="churn"):
    return Signal(name=name, values=np.array(values, float), seconds=0.5)


def test_runs_are_grouped_by_family_as_these_come_and_by_rising_seed(studied):
    runs = [
        studied(0.1, family="large", seed=2),
        studied(0.1, family="small", seed=1),
        studied(0.1, family="large", seed=1),
    ]
    found = [(family.name, [run.seed for run in family.runs]) for family in families(runs)]
    assert found == [("large", [1, 2]), ("small", [1])]


def test_error_rates_are_the_mean_over_draws_and_then_over_seeds(studied):
    # Intact are 10 %; the draws lie 2 points to either side of the penalty.
    (family,) = families([studied(0.1, 0.5, seed=0), studied(0.3, 0.2, seed=1)])
    assert family.blocks == (0, 1)
    np.testing.assert_allclose(family.error_rates, [[0.2, 0.6], [0.4, 0.3]])
    np.testing.assert_allclose(family.mean, [0.3, 0.45])
    np.testing.assert_allclose(family.lowest, [0.2, 0.3])
    np.testing.assert_allclose(family.highest, [0.4, 0.6])
    np.testing.assert_allclose(family.intact, [0.1, 0.1])


def test_ambient_blocks_are_counted_by_seed(studied):
    # Intervals reach 0.01 beyond the penalties.
    runs = [studied(0.0, 0.005, 0.3, seed=4), studied(0.015, 0.005, 0.3, seed=7)]
    assert families(runs)[0].ambient(0.02) == {4: 2, 7: 1}


def test_a_family_of_two_evaluation_sets_is_two(studied):
    runs = [studied(0.1, data_hash="abc" * 9), studied(0.2, data_hash="def" * 9)]
    assert [family.name for family in families(runs)] == [
        "small, set abcabcab",
        "small, set defdefde",
    ]


def test_a_seed_that_stands_twice_is_named(studied):
    with pytest.raises(ValueError, match=r"small: .*got seeds=\[3, 3\]"):
        families([studied(0.1, seed=3), studied(0.2, seed=3)])


def test_a_family_of_other_blocks_is_named(studied):
    with pytest.raises(ValueError, match=r"small must be of the same blocks; got \[0\] and"):
        families([studied(0.1, seed=0), studied(0.2, 0.3, seed=1)])


def test_a_family_ranked_by_a_signal_is_named(studied, by_signal, make_ranking):
    run = Studied(family="small", seed=5, ranking=by_signal(make_ranking(0.1)))
    with pytest.raises(ValueError, match=r"small: seed 5 .*got none of block 0"):
        families([run])


def test_the_same_model_on_two_sets_is_found(studied):
    first, second = studied(0.1, data_hash="a"), studied(0.2, data_hash="b")
    third = studied(0.2, data_hash="b", model_hash="other")
    assert of_two_sets([first, second, third]) == [(first, second)]


def test_rank_correlations_by_hand():
    # One of six pairs is the other way round; two ranks are off by one.
    assert kendall([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx((5 - 1) / 6)
    assert spearman([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_ties_are_taken_out_of_both_scales():
    # Tau-b: 2 pairs alike of 3, of which one row orders 2: 2 / sqrt(2 * 3).
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    # Pearson's of the ranks 1.5, 1.5, 3 and 1, 2, 3.
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


@pytest.mark.filterwarnings("ignore:np.find_common_type:DeprecationWarning")
@pytest.mark.parametrize("measure", ["kendall", "spearman"])
def test_correlations_are_those_of_scipy(measure, noise):
    first, second = np.round(2 * noise(2, 40))
    reference = {"kendall": scipy.stats.kendalltau, "spearman": scipy.stats.spearmanr}[measure]
    ours = {"kendall": kendall, "spearman": spearman}[measure]
    assert ours(first, second) == pytest.approx(reference(first, second)[0])


@pytest.mark.parametrize("measure", [kendall, spearman])
@pytest.mark.parametrize(
    ("first", "second"), [([1, 1], [1, 2]), ([1, 2], [3, 3]), ([1], [2]), ([], [])]
)
def test_what_has_no_order_has_no_correlation(measure, first, second):
    assert measure(first, second) is None


@pytest.mark.parametrize("measure", [kendall, spearman])
def test_two_blocks_suffice(measure):
    assert measure([1, 2], [5, 4]) == pytest.approx(-1)


def test_two_rankings_agree_as_their_penalties_do(make_ranking):
    first, second = make_ranking(0.1, 0.2, 0.3, 0.4), make_ranking(0.0, 0.1, 0.9, 0.8)
    assert agreement(first, second) == pytest.approx(2 / 3)


def test_rankings_of_other_blocks_are_not_compared(make_ranking):
    with pytest.raises(ValueError, match=r"same blocks; got \[0, 1\] and \[0\]"):
        agreement(make_ranking(0.1, 0.2), make_ranking(0.1))


def test_stability_is_the_mean_over_all_pairs(make_ranking):
    rising, falling = make_ranking(0.1, 0.2, 0.3), make_ranking(0.3, 0.2, 0.1)
    # One pair is alike, two are reversed.
    assert stability([rising, rising, falling]) == pytest.approx(-1 / 3)


def test_a_ranking_without_an_order_counts_for_nothing(make_ranking):
    rising, level = make_ranking(0.1, 0.2), make_ranking(0.1, 0.1)
    assert stability([rising, level, rising]) == pytest.approx(1)


def test_stability_of_one_run_or_of_none_with_an_order_is_not_defined(make_ranking, studied):
    assert stability([make_ranking(0.1, 0.1), make_ranking(0.1, 0.2)]) is None
    assert families([studied(0.1, 0.2)])[0].stability() is None


def test_checkpoints_are_compared_with_the_last_one(make_ranking):
    over_training = {
        30: make_ranking(0.1, 0.2, 0.3),
        10: make_ranking(0.3, 0.2, 0.1),
        20: make_ranking(0.2, 0.2, 0.2),
    }
    found = agreement_with_last(over_training)
    assert list(found) == [10, 20, 30]
    assert found == {10: pytest.approx(-1), 20: None, 30: pytest.approx(1)}


def test_a_signal_is_correlated_with_the_blocks_in_their_order(make_ranking):
    found = correlate_signal(signal(1, 2, 4, 3), make_ranking(0.1, 0.2, 0.3, 0.4))
    assert (found.spearman, found.kendall) == (pytest.approx(0.8), pytest.approx(2 / 3))


def test_a_signal_of_another_model_is_named(make_ranking):
    with pytest.raises(ValueError, match=r"churn must .*; got 3 values, 2 blocks"):
        correlate_signal(signal(1, 2, 3), make_ranking(0.1, 0.2))


def test_the_best_signal_comes_first_and_the_undefined_last(make_ranking):
    signals = [signal(1, 1, name="level"), signal(2, 1, name="bad"), signal(1, 2, name="good")]
    found = by_correlation(signals, make_ranking(0.1, 0.2))
    assert [one.name for one, _ in found] == ["good", "bad", "level"]


CHURN = Churn(
    step=9,
    modules=("attention", "convolution"),
    moved=np.array([[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]]),
    first=np.ones([2, 3]),
)


def test_churn_is_correlated_with_the_reset_of_its_module(make_ranking, make_score):
    scores = [make_score((b,), p, "convolution") for b, p in ((2, 0.1), (0, 0.2))]
    found = correlate_churn(CHURN, make_ranking(0.0, 0.1, 0.2, modules=tuple(scores)))
    # Attention was not reset; block 1 has no convolution.
    assert list(found) == ["convolution"]
    assert found["convolution"].kendall == pytest.approx(1)


def test_churn_is_correlated_with_the_reset_of_whole_blocks(make_ranking):
    found = correlate_churn_with_blocks(CHURN, make_ranking(0.0, 0.1, 0.2))
    assert found["attention"].spearman == pytest.approx(1)
    # Ranks 3, 1, 2 beside 1, 2, 3: squared differences 4, 1, 1.
    assert found["convolution"].spearman == pytest.approx(1 - 6 * 6 / (3 * 8))
