from pathlib import Path

import pytest

from tfasr.configs.language_model import LanguageModelConfig, thresholds_of_orders

PLACES = {"source": Path("data"), "out": Path("lm.arpa")}


def test_the_last_threshold_holds_for_the_orders_above_it():
    assert thresholds_of_orders(5, (0, 0, 1)) == (0, 0, 1, 1, 1)


def test_nothing_is_pruned_where_nothing_is_said():
    assert thresholds_of_orders(3, ()) == (0, 0, 0)


@pytest.mark.parametrize("order", [0, 7])
def test_an_order_out_of_range_is_named(order):
    with pytest.raises(ValueError, match=f"order must be from 1 to 6; got order={order}"):
        LanguageModelConfig(**PLACES, order=order)


@pytest.mark.parametrize("prune", [(1,), (0, 2, 1), (-1,)])
def test_thresholds_that_do_not_rise_from_0_are_named(prune):
    with pytest.raises(ValueError, match=r"prune must start with 0 and must not fall; got \["):
        LanguageModelConfig(**PLACES, prune=prune)


def test_too_many_thresholds_are_named():
    with pytest.raises(ValueError, match=r"at most order=2 thresholds; got \[0, 0, 1\]"):
        LanguageModelConfig(**PLACES, order=2, prune=(0, 0, 1))


def test_a_tokenizer_for_words_is_named():
    with pytest.raises(ValueError, match=r"unit=token; got unit=word, tokenizer=t\.model"):
        LanguageModelConfig(**PLACES, unit="word", tokenizer=Path("t.model"))
