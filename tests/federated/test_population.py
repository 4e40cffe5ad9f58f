from collections import Counter
from dataclasses import replace

import pytest

from tfasr.configs.clients import ClientsConfig
from tfasr.configs.features import AugmentConfig

pytestmark = pytest.mark.federated


def with_settings(population, **settings):
    return replace(population, config=ClientsConfig(**settings))


def test_clients_are_drawn_anew_each_round(population):
    drawn = {tuple(sorted(d.client.name for d in population.sample(2, 0, n))) for n in range(20)}
    assert drawn == {("ada", "bo"), ("ada", "cy"), ("bo", "cy")}


def test_more_clients_than_there_are_are_refused(population):
    with pytest.raises(ValueError, match=r"got clients_per_round=9 of 3 clients\. Lower it"):
        population.sample(9, 0, 0)


def test_weighted_sampling_follows_the_utterances(population):
    # Ada has 3 of 12 utterances, Bo 4 and Cy 5.
    weighted = with_settings(population, sampling="weighted")
    drawn = Counter(weighted.sample(1, 0, n)[0].client.name for n in range(1200))
    # Expected 300, 400 and 500; the largest deviation is 17.
    assert all(
        abs(drawn[name] - expected) < 60
        for name, expected in {"ada": 300, "bo": 400, "cy": 500}.items()
    )


def test_clients_drop_out_as_often_as_was_asked_for(population):
    unreliable = with_settings(population, dropout_share=0.25)
    answers = [d.answers for n in range(200) for d in unreliable.sample(3, 0, n)]
    assert 400 < sum(answers) < 500  # 450 of 600 are expected, their deviation is 11.


def test_who_drops_out_changes_nothing_in_who_is_drawn(population):
    unreliable = with_settings(population, dropout_share=0.5)
    for number in range(5):
        ours, theirs = (p.sample(2, 0, number) for p in (unreliable, population))
        assert [d.client for d in ours] == [d.client for d in theirs]
        assert ours == unreliable.sample(2, 0, number)


def test_everybody_answers_unless_told_otherwise(population):
    assert all(d.answers and not d.slow for d in population.sample(3, 0, 0))


def test_a_straggler_is_known_before_the_round(population):
    slow = replace(population, pipeline=replace(population.pipeline, straggler_share=1.0))
    # Of the two steps that others make, one.
    assert [(d.steps, d.slow) for d in slow.sample(2, 0, 0)] == [(1, True)] * 2


def test_clients_whose_audio_is_not_finite_are_named(population):
    drawn = population.sample(2, 0, 0)
    assert population.not_finite(drawn, 0) == []
    deafening = replace(population.pipeline, augmentation=AugmentConfig(gain_db=(1e5, 1e5)))
    deaf = replace(population, pipeline=deafening)
    assert deaf.not_finite(drawn, 0) == [each.client.name for each in drawn]
