import pytest

from tfasr.evaluation.transcription import Hypothesis
from tfasr.federated.personalisation import personalisation

pytestmark = pytest.mark.federated


def heard(*texts):
    """What was heard of five utterances of two words each, by ada, bo and cy."""
    speakers = ("ada", "ada", "bo", "cy", "cy")
    return [
        Hypothesis(str(number), "a b", text, speaker, "near")
        for number, (text, speaker) in enumerate(zip(texts, speakers, strict=True))
    ]


BEFORE = heard("a b", "a x", "x y", "x x", "a b")
AFTER = heard("a b", "a b", "a b", "x x", "x b")


@pytest.fixture(scope="module")
def found():
    return personalisation(BEFORE, AFTER, ["cy", "bo", "ada", "dan"], "speaker")


def test_rates_are_of_each_clients_own_words(found):
    rates = [(r.client, r.words, r.before, r.after) for r in found.rates]
    assert rates == [("ada", 4, 0.25, 0.0), ("bo", 2, 1.0, 0.0), ("cy", 4, 0.5, 0.75)]


def test_quartiles_weigh_clients_alike(found):
    quartiles = found.quartiles()
    assert quartiles["before"] == pytest.approx([0.25, 0.375, 0.5, 0.75, 1.0])
    assert quartiles["after"] == pytest.approx([0.0, 0.0, 0.0, 0.375, 0.75])
    # Changes are by client: -0.25, -1 and 0.25.
    assert quartiles["change"] == pytest.approx([-1.0, -0.625, -0.25, 0.0, 0.25])


def test_the_worst_and_the_most_harmed_are_named(found):
    assert (found.worst.client, found.most_harmed.client) == ("cy", "cy")
    about = found.to_json()
    assert (about["better"], about["worse"]) == (2, 1)
    assert about["mean"] == pytest.approx({"before": 7 / 12, "after": 0.25})
    assert about["quartiles"]["after"]["highest"] == pytest.approx(0.75)


def test_clients_without_validation_utterances_are_named(found):
    assert found.to_json()["without_validation_utterances"] == ["dan"]


def test_clients_may_be_domains():
    [rates] = personalisation(BEFORE, AFTER, ["near"], "domain").rates
    assert (rates.words, rates.before, rates.after) == (10, 0.5, 0.3)


def test_clients_of_whom_nothing_can_be_said_are_refused():
    with pytest.raises(ValueError, match=r"must have validation utterances .* got none of 1"):
        personalisation(BEFORE, AFTER, ["dan"], "speaker")
