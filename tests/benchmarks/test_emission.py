import numpy as np
import pytest

emission = pytest.importorskip(
    "benchmarks.emission", reason="benchmarks are importable from the repository's own folder only"
)
listening = pytest.importorskip("benchmarks.listening")


def heard(tokens=(), log_probs=()):
    return listening.Heard(np.zeros([1, 1]), np.array(log_probs, np.float32), list(tokens))


def spoken(tokens, starts, ends):
    return emission.Spoken(np.zeros(1), tokens, starts, ends)


@pytest.mark.parametrize(
    ("partials", "expected"),
    [
        ([], (0, 0, 0)),
        ([["four"], ["four"], ["four", "two"]], (2, 0, 0)),
        ([["four"], ["fourteen"]], (2, 1, 0)),
        ([["f"], ["four"], ["three"]], (3, 1, 1)),
        ([["one", "two"], ["one"], ["one", "two"]], (3, 0, 1)),
        ([["a", "b"], ["b"]], (3, 0, 2)),
    ],
)
def test_words_of_partial_results_are_counted_in_their_places(partials, expected):
    assert emission.stability(partials) == emission.Stability(*expected)


def test_a_share_is_of_the_words_shown_in_all_streams():
    both = emission.Stability(3, 0, 1) + emission.Stability(1, 1, 0)
    assert (both.retracted_share, both.grown_share) == (0.25, 0.25)


def test_tokens_come_when_their_chunk_is_there():
    stream = emission.Stream([heard([3]), heard(), heard([4, 5])], [0.5, 1.0, 1.25])
    assert (stream.tokens, stream.times) == ([3, 4, 5], [0.5, 1.25, 1.25])
    assert stream.greedy_partials() == [[3], [3], [3, 4, 5]]


def test_delays_are_from_the_alignment_of_what_is_heard_without_an_error():
    streams = [
        emission.Stream([heard([1]), heard([2])], [0.5, 1.0]),
        emission.Stream([heard([1])], [9.0]),
        emission.Stream([heard([3])], [0.75]),
    ]
    said = [
        spoken([1, 2], [0.25, 0.5], [0.5, 0.75]),
        spoken([2], [0.0], [0.25]),
        spoken([3], [0.0], [0.25]),
    ]
    figures = emission.delays_of(said, streams).figures()
    assert figures == pytest.approx(
        {
            "first_token_delay_ms": 250.0,  # Of 0 and 500.
            "first_token_delay_90_ms": 450.0,
            "first_token_delay_from_start_ms": 500.0,  # Of 250 and 750.
            "token_delay_ms": 250.0,  # Of 0, 250 and 500.
        }
    )


def test_delays_of_a_run_that_hears_nothing_right_are_refused():
    with pytest.raises(ValueError, match="heard without an error; got none of 1"):
        emission.delays_of([spoken([1], [0.0], [0.5])], [emission.Stream([heard()], [0.5])])


def test_a_beam_may_take_a_token_back():
    # "0" has 0.46 after a frame, the empty prefix 0.40. After two, "0 1" has 0.46 * 0.90 = 0.41,
    # and "1" has 0.40 * 0.90 + 0.14 * 0.95 = 0.49.
    frames = np.log([[[0.46, 0.14, 0.40]], [[0.05, 0.90, 0.05]]])
    stream = emission.Stream([heard(log_probs=frame) for frame in frames], [0.1, 0.2])
    assert emission.beam_partials()(stream) == [[0], [1]]
