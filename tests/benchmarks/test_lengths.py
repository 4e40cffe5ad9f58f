import pytest

lengths = pytest.importorskip(
    "benchmarks.lengths", reason="benchmarks are importable from the repository's own folder only"
)


def cost(kind, seconds, call, axis="lengths", batch=1):
    memory = None if call is None else 1.0
    return lengths.Cost(
        kind=kind, axis=axis, seconds=seconds, batch=batch, call=call, gigabytes=memory
    )


@pytest.fixture
def figures():
    """Dense attention takes the square of the length, and 600 s are left out."""
    dense = [cost("dense", 30, 99.0), cost("dense", 60, 1.0), cost("dense", 120, 4.0)]
    sparse = [cost("probsparse", 60, 1.0), cost("probsparse", 120, 2.0)]
    batches = [cost("dense", 10, 7.0, "batches", 16)]
    return lengths.figures_of([*dense, cost("dense", 600, None), *sparse, *batches])


def test_the_exponent_is_that_of_long_utterances(figures):
    assert figures["dense_exponent"] == pytest.approx(2.0)
    assert figures["probsparse_exponent"] == pytest.approx(1.0)


def test_without_long_utterances_there_is_no_exponent(figures):
    assert figures["streaming_exponent"] is None


def test_what_was_left_out_is_null(figures):
    assert figures["dense_600_seconds"] is None
    assert figures["dense_600_gigabytes"] is None


def test_a_batch_has_a_name_of_its_own(figures):
    assert figures["dense_10_batch_16_seconds"] == 7.0
