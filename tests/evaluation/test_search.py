import numpy as np
import pytest
import tensorflow as tf

from tfasr.configs.model import CitrinetConfig, ModelConfig
from tfasr.decoding.attention_beam import attention_beam_search
from tfasr.decoding.ctc_lattice import ctc_score
from tfasr.decoding.greedy import greedy_tokens
from tfasr.decoding.hypotheses import best_tokens
from tfasr.decoding.language_model import lm_score
from tfasr.decoding.prefix_beam import prefix_beam_search
from tfasr.decoding.transducer_beam import transducer_beam_search
from tfasr.evaluation.search import Heard, Recogniser, load_language_model
from tfasr.losses.transducer import transducer_loss
from tfasr.models.building import build_model

ABSENT = -float("inf")
# Beams that hold every hypothesis of two frames of four tokens: scores are exact.
ALL = {"beam": 30, "token_beam": 4}
KINDS = ["prefix_beam", "attention", "rescoring"]


@pytest.fixture(scope="module")
def one(recogniser):
    return recogniser(name="one")


@pytest.fixture(scope="module")
def two(recogniser):
    return recogniser(seed=3, name="two")


@pytest.fixture(scope="module")
def transducer(recogniser):
    return recogniser(left=0, right=0, units=5, name="transducer")


@pytest.fixture(scope="module")
def batch(noise):
    return 3 * noise(2, 8, 6), tf.constant([8, 5])


def searched(search, batch):
    """What a search finds when all its models are given the same features, and its terms.

    For two frames of an encoding a graph would take longer to build.
    """
    count = len(search.recognisers)
    features, num_frames = map(tf.constant, batch)
    heard = search.hear((features,) * count, (num_frames,) * count)
    nbest = search.nbest(heard)
    return nbest, search.terms(heard, nbest)


def present(nbest, row):
    """Hypotheses of an utterance with their scores, in order."""
    tokens, lengths, scores = (x[row].numpy() for x in nbest)
    return {
        tuple(t[:n].tolist()): float(s)
        for t, n, s in zip(tokens, lengths, scores, strict=True)
        if s > ABSENT
    }


def assert_same_lists(one, two, rtol=1e-4):
    for row in range(one.scores.shape[0]):
        mine, other = present(one, row), present(two, row)
        assert mine == pytest.approx(other, rel=rtol)
        assert next(iter(mine)) == next(iter(other))


def test_a_prefix_beam_is_that_of_the_ctc_head(search, one, batch):
    found, _ = searched(search([one], kind="prefix_beam", beam=3, token_beam=2), batch)
    logits = one.model(*batch)
    expected = prefix_beam_search(logits, one.model.encoded_frames(batch[1]), beam=3, token_beam=2)
    assert_same_lists(found, expected)


def test_a_beam_of_one_token_and_prefix_finds_the_best_path(search, one, batch):
    found, _ = searched(search([one], kind="prefix_beam", beam=1, token_beam=1), batch)
    greedy = greedy_tokens(one.model(*batch), one.model.encoded_frames(batch[1]))
    assert best_tokens(found).to_list() == greedy.to_list()


def test_an_attention_beam_is_that_of_the_left_decoder(search, one, batch):
    found, _ = searched(search([one], kind="attention", beam=3), batch)
    expected = attention_beam_search(
        one.model.decoder.left,
        *one.model.encode(*batch),
        beam=3,
        max_tokens=6,
        length_penalty=0.0,
    )
    assert_same_lists(found, expected)


def test_rescoring_by_its_equation(search, one, batch):
    options = {"kind": "rescoring", "ctc_weight": 0.4, "reverse_weight": 0.2}
    found, _ = searched(search([one], **options, **ALL), batch)
    heard = Heard(one, *batch)
    given = (found.tokens, found.num_tokens)
    expected = 0.8 * heard.left(*given) + 0.2 * heard.right(*given) + 0.4 * heard.ctc(*given)
    there = found.scores.numpy() > ABSENT
    np.testing.assert_allclose(found.scores[there], expected[there], rtol=1e-4)
    assert there.sum() > 10


def test_rescoring_by_little_but_ctc_keeps_its_order(search, one, batch):
    beams = {"beam": 5, "token_beam": 4}
    found, _ = searched(search([one], kind="rescoring", ctc_weight=1e4, **beams), batch)
    ctc, _ = searched(search([one], kind="prefix_beam", **beams), batch)
    np.testing.assert_array_equal(found.tokens, ctc.tokens)


def test_a_language_model_is_in_the_prefix_beam(search, one, batch, arpa):
    fused = {"lm": arpa, "lm_weight": 2.0, "insertion_bonus": 0.7}
    found, terms = searched(search([one], kind="prefix_beam", **fused, **ALL), batch)
    lm = lm_score(load_language_model(arpa, one.pieces), found.tokens, found.num_tokens)
    expected = terms["ctc"] + 2 * lm + 0.7 * tf.cast(found.num_tokens, tf.float32)
    there = found.scores.numpy() > ABSENT
    np.testing.assert_allclose(found.scores[there], expected[there], rtol=1e-4)


@pytest.mark.parametrize("kind", ["attention", "rescoring"])
def test_a_language_model_is_added_to_what_was_found(search, one, batch, arpa, kind):
    options = {"kind": kind, "beam": 4}
    plain, _ = searched(search([one], **options), batch)
    fused = {"lm": arpa, "lm_weight": 0.5, "insertion_bonus": 0.1}
    found, terms = searched(search([one], **options, **fused), batch)
    added = 0.5 * terms["lm"] + 0.1 * terms["tokens"]
    for row in range(2):
        before, after = present(plain, row), present(found, row)
        for place, tokens in enumerate(after):
            expected = before[tokens] + float(added[row, place])
            assert after[tokens] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_weighted_sums_of_terms(search, one, two, batch, arpa, kind):
    options = {"kind": kind, "lm": arpa, "lm_weight": 0.5, "insertion_bonus": 0.1, **ALL}
    if kind == "attention":
        del options["token_beam"]
    weights = {
        "prefix_beam": {"ctc": 1.0},
        "attention": {"left": 1.0},
        "rescoring": {"ctc": 0.5, "left": 0.7, "right": 0.3},
    }[kind]
    found, terms = searched(search([one, two], **options), batch)
    weights |= {"lm": 0.5, "tokens": 0.1}
    assert set(terms) == set(weights)
    expected = sum(weight * terms[name] for name, weight in weights.items())
    there = found.scores.numpy() > ABSENT
    np.testing.assert_allclose(found.scores[there], expected[there], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_beside_itself_hears_what_it_hears_alone(search, one, batch, kind):
    options = {"beam": 30} if kind == "attention" else ALL
    alone, _ = searched(search([one], kind=kind, **options), batch)
    together, _ = searched(search([one, one], kind=kind, **options), batch)
    assert_same_lists(together, alone)


def test_an_ensemble_averages_what_its_models_say(search, one, two, batch):
    found, _ = searched(search([one, two], kind="prefix_beam", **ALL), batch)
    frames = one.model.encoded_frames(batch[1])
    given = (frames, found.tokens, found.num_tokens)
    expected = sum(ctc_score(each.model(*batch), *given) for each in (one, two)) / 2
    there = found.scores.numpy() > ABSENT
    np.testing.assert_allclose(found.scores[there], expected[there], rtol=1e-4)


def test_padding_changes_no_list(search, one, noise):
    features = 3 * noise(2, 8, 6)
    rescoring = search([one], kind="rescoring", beam=4)
    together, _ = searched(rescoring, (features, [8, 5]))
    alone, _ = searched(rescoring, (features[1:, :5], [5]))
    assert present(together, 1) == pytest.approx(present(alone, 0), rel=1e-4)


@pytest.mark.parametrize("kind", ["attention", "rescoring"])
def test_a_model_without_a_decoder_is_named(search, recogniser, kind):
    with pytest.raises(ValueError, match=rf"work/ctc: decoder\.kind={kind} needs .* decoder"):
        search([recogniser(0, 0, name="work/ctc")], kind=kind)


def test_a_model_without_a_right_decoder_is_named(search, recogniser):
    with pytest.raises(ValueError, match=r"work/left: .* got reverse_weight=0\.3"):
        search([recogniser(1, 0, name="work/left")], kind="rescoring")


def test_without_a_reverse_weight_no_right_decoder_is_needed(search, recogniser, batch):
    left = recogniser(1, 0)
    found, terms = searched(search([left], kind="rescoring", reverse_weight=0.0, beam=3), batch)
    assert set(terms) == {"ctc", "left", "tokens"}
    assert np.isfinite(found.scores[:, 0]).all()


def test_a_language_model_of_other_tokens_is_named(arpa):
    with pytest.raises(ValueError, match=r"lm\.arpa: .* another vocabulary: it lacks 1 of 2"):
        load_language_model(arpa, ["▁one", "▁three"])


def test_a_conformer_s_frames_are_four_of_its_features_(one):
    assert one.seconds_per_frame == pytest.approx(0.04)


def test_a_citrinet_s_frames_are_eight_of_its_features():
    config = ModelConfig(
        family="citrinet",
        citrinet=CitrinetConfig(
            channels=8,
            final_channels=8,
            kernels=((3,), (3,), (3,)),
            prologue_kernel=3,
            epilogue_kernel=3,
            repeat=1,
            norm_groups=2,
        ),
        num_mels=6,
        vocabulary=4,
    )
    model = build_model(config)
    found = Recogniser(name="run", model=model, pieces=["a"] * 4, frame_shift=0.01)
    assert found.seconds_per_frame == pytest.approx(0.08)


def test_a_transducer_s_beam_is_its_own(search, transducer, batch):
    nbest, _ = searched(search([transducer], kind="transducer", max_symbols=2, **ALL), batch)
    model, features = transducer.model, tuple(map(tf.constant, batch))
    expected, _ = transducer_beam_search(
        model.prediction,
        model.joint,
        model.encode(*features)[0],
        tf.constant([2, 2]),
        beam=30,
        max_symbols=2,
        token_beam=4,
    )
    assert_same_lists(nbest, expected)


def test_a_transducer_s_term_is_its_loss_turned(search, transducer, batch):
    nbest, terms = searched(search([transducer], kind="transducer", beam=3), batch)
    model, (features, num_frames) = transducer.model, map(tf.constant, batch)
    tokens, num_tokens = nbest.tokens[:, 1], nbest.num_tokens[:, 1]
    expected = -transducer_loss(
        model.joint,
        model.encode(features, num_frames)[0],
        tf.constant([2, 2]),
        model.prediction(tokens, num_tokens),
        tokens,
        num_tokens,
    )
    np.testing.assert_allclose(terms["transducer"][:, 1], expected, rtol=1e-5)


def test_transducers_are_an_ensemble(search, transducer, recogniser, batch):
    other = recogniser(left=0, right=0, units=7, seed=3, name="other")
    nbest, terms = searched(search([transducer, other], kind="transducer", beam=3), batch)
    there = nbest.scores > ABSENT
    assert tf.reduce_sum(tf.cast(there, tf.int32)) > 4
    np.testing.assert_allclose(nbest.scores[there], terms["transducer"][there], rtol=1e-4)


def test_a_transducer_s_tokens_are_in_one_frame_each(transducer, batch):
    heard = Heard(transducer, *map(tf.constant, batch))
    alignment = heard.align(tf.constant([[0, 1], [2, 0]]), tf.constant([2, 1]))
    np.testing.assert_array_equal(alignment.first, alignment.last)
    first = alignment.first.numpy()
    assert 0 <= first[0, 0] <= first[0, 1] <= 1
    assert first[1].tolist()[1] == -1


@pytest.mark.parametrize(
    ("kind", "parts", "told"),
    [
        ("transducer", {}, "needs a model with a transducer.*greedy, prefix_beam, attention"),
        ("prefix_beam", {"units": 5}, "needs a model with a CTC head.*; choose greedy, transducer"),
        (
            "rescoring",
            {"units": 5},
            "needs a model with an attention decoder.*; choose greedy, transducer",
        ),
    ],
)
def test_a_model_without_what_its_decoder_needs_is_named(search, recogniser, kind, parts, told):
    blocks = 0 if parts else 1
    with pytest.raises(ValueError, match=rf"run: decoder\.kind={kind} {told}"):
        search([recogniser(left=blocks, right=blocks, **parts)], kind=kind)
