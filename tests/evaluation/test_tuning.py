from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.evaluation import DecodingConfig
from tfasr.evaluation.decoders import decode_batches, hypothesis_texts, search_decoder
from tfasr.evaluation.tuning import GRID, ScoredLists, settings_to_try, tune

ABSENT = -float("inf")


def lists(**terms):
    """Two utterances of two words, with two hypotheses each; the second one is right."""
    return ScoredLists(
        {name: np.array(values, np.float32) for name, values in terms.items()},
        np.array([[True, True], [True, True]]),
        np.array([[2, 0], [1, 0]]),
        np.array([2, 2]),
    )


def test_error_rates_by_hand():
    scored = lists(ctc=[[-1.0, -3.0], [-1.0, -9.0]], tokens=[[1, 3], [1, 2]])
    rescoring = DecodingConfig(kind="prefix_beam")
    assert scored.error_rate(rescoring) == 3 / 4
    # A token is worth more than the 2 that the first hypothesis is ahead by in two tokens.
    assert scored.error_rate(replace(rescoring, insertion_bonus=1.5)) == 1 / 4
    assert scored.error_rate(replace(rescoring, insertion_bonus=9.0)) == 0


def test_a_weight_of_nothing_silences_what_is_impossible():
    scored = lists(
        ctc=[[ABSENT, ABSENT], [-1.0, -2.0]],
        left=[[-2.0, -1.0], [-2.0, -1.0]],
        tokens=[[1, 1], [1, 1]],
    )
    config = DecodingConfig(kind="rescoring", ctc_weight=0.0, reverse_weight=0.0)
    assert scored.error_rate(config) == 0


def test_absent_hypotheses_are_not_chosen():
    scored = lists(ctc=[[-1.0, 0.0], [-1.0, 0.0]], tokens=[[1, 0], [1, 0]])
    absent = replace(scored, present=np.array([[True, False], [True, True]]))
    assert absent.error_rate(DecodingConfig(kind="prefix_beam")) == 2 / 4


def test_what_was_configured_is_tried_first_and_once():
    config = DecodingConfig(kind="rescoring", ctc_weight=0.3, reverse_weight=0.4)
    tried = settings_to_try(config, ["ctc", "left", "right", "tokens"])
    assert tried[0] == {"insertion_bonus": 0.0, "ctc_weight": 0.3, "reverse_weight": 0.4}
    assert len(tried) == len(GRID["insertion_bonus"]) * len(GRID["ctc_weight"]) * 6
    assert all(tried.count(setting) == 1 for setting in tried[:20])


def test_only_weights_of_something_are_tried():
    config = DecodingConfig(kind="prefix_beam")
    assert {tuple(s) for s in settings_to_try(config, ["ctc", "tokens"])} == {("insertion_bonus",)}


def batches_said_as(search, noise, **weights):
    """Two batches whose references are what a search hears with other weights."""
    judge = replace(search, config=replace(search.config, **weights))
    batches = []
    for size in (4, 2):
        features, num_frames = 3 * noise(size, 24, 6, seed=size), tf.range(12, 12 + size)
        nbest = judge.nbest(judge.hear([tf.constant(features)], [num_frames]))
        texts = hypothesis_texts(nbest, judge.recognisers[0].pieces)[:, 0]
        empty = tf.fill([size], "")
        columns = {"id": texts, "text": texts, "speaker": empty, "domain": empty}
        batches.append(({"features": features, "num_frames": num_frames, **columns},))
    return batches


def test_tuned_weights_make_the_errors_that_were_foretold(search, recogniser, noise, arpa):
    given = search([recogniser()], kind="attention", beam=6, lm=arpa, lm_weight=5.0)
    batches = batches_said_as(given, noise, lm_weight=0.1, insertion_bonus=1.5)
    tuning = tune(given, batches)
    found = decode_batches(search_decoder(replace(given, config=tuning.config)), batches)
    assert (tuning.wer, tuning.utterances) == (0, 6)
    assert tuning.wer_before > 0.1
    assert [hypothesis.text for hypothesis in found.hypotheses] == [
        hypothesis.reference for hypothesis in found.hypotheses
    ]
    assert {name: getattr(tuning.config, name) for name in tuning.weights} == tuning.weights
    assert "config" not in tuning.to_json()


def test_tuning_on_nothing_is_refused(search, recogniser):
    with pytest.raises(ValueError, match="tuned on utterances; got none"):
        tune(search([recogniser()], kind="prefix_beam"), [])
