from collections import Counter

import pytest

from tfasr.configs.clients import ClientsConfig
from tfasr.data.partition import NOBODY, Spoken, deal

HALVES = [Spoken("ada", "near"), Spoken("bo", "far")] * 500


def mixtures(concentration, count=5, seed=0):
    """Of each client, how many utterances it has of each domain."""
    config = ClientsConfig(by="dirichlet", count=count, concentration=concentration)
    owners = deal(HALVES, config, seed)
    return {
        client: Counter(
            s.domain for s, owner in zip(HALVES, owners, strict=True) if owner == client
        )
        for client in sorted(set(owners))
    }


@pytest.mark.parametrize(("by", "names"), [("speaker", ["ada", "bo"]), ("domain", ["near", "far"])])
def test_utterances_are_dealt_by_what_they_say_of_themselves(by, names):
    assert deal(HALVES[:2], ClientsConfig(by=by), 0) == names


@pytest.mark.parametrize("by", ["speaker", "domain"])
def test_an_utterance_that_does_not_say_is_counted(by):
    with pytest.raises(ValueError, match=rf"must name its {by}; got 1 of 3 that name none"):
        deal([*HALVES[:2], Spoken("", "")], ClientsConfig(by=by), 0)


def test_every_utterance_goes_to_one_client_of_a_mixture():
    found = mixtures(1.0)
    assert list(found) == [f"mixture-{owner:05d}" for owner in range(5)]
    assert sum(found.values(), Counter()) == {"near": 500, "far": 500}


def test_a_high_concentration_gives_all_the_same_mixture():
    for of_client in mixtures(1e6).values():
        assert abs(of_client["near"] - 100) <= 35  # Of 200, half; its deviation is 7.


def test_a_low_concentration_gives_most_clients_one_domain():
    pure = [len(of_client) == 1 for of_client in mixtures(1e-6, count=4).values()]
    assert sum(pure) >= 2


def test_a_concentration_between_gives_some_of_all():
    near = [of_client["near"] for of_client in mixtures(1.0).values()]
    assert max(near) - min(near) > 50


@pytest.mark.parametrize("concentration", [1e-6, 1e-3, 1.0])
def test_all_clients_of_mixtures_are_equally_large(concentration):
    sizes = [sum(of_client.values()) for of_client in mixtures(concentration, count=3).values()]
    assert sizes == [334, 333, 333]


def test_the_seed_decides_the_mixtures():
    assert mixtures(1.0) == mixtures(1.0)
    assert mixtures(1.0) != mixtures(1.0, seed=1)


def test_more_mixtures_than_utterances_are_refused():
    with pytest.raises(ValueError, match=r"clients\.count=2000 must not exceed .* got 1000"):
        mixtures(1.0, count=2000)


def test_clients_of_a_fixed_size_have_it_and_the_rest_is_nobodys():
    owners = Counter(deal(HALVES, ClientsConfig(by="size", size=300), 0))
    assert owners == {"part-00000": 300, "part-00001": 300, "part-00002": 300, NOBODY: 100}


def test_clients_of_a_fixed_size_are_alike():
    owners = deal(HALVES, ClientsConfig(by="size", size=500), 0)
    near = sum(
        s.domain == "near" and o == "part-00000" for s, o in zip(HALVES, owners, strict=True)
    )
    assert abs(near - 250) < 40  # Its deviation is 8.


def test_a_size_beyond_all_utterances_is_refused():
    with pytest.raises(ValueError, match=r"clients\.size=9 must not exceed .* got 2"):
        deal(HALVES[:2], ClientsConfig(by="size", size=9), 0)
