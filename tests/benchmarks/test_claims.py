import numpy as np
import pytest

from tfasr.study.comparison import Family, Studied
from tfasr.study.ranking import Ranking, Score

claims = pytest.importorskip(
    "benchmarks.claims", reason="benchmarks are importable from the repository's own folder only"
)

MARGIN = 0.02


def ranking_of(*penalties):
    """Blocks re-randomised to a penalty over 10 %, re-initialised to a point less."""
    scores = [
        Score(
            blocks=(block,),
            penalty=penalty,
            interval=(penalty - 0.01, penalty + 0.01),
            reinitialised_wer=0.09 + penalty,
            rerandomised_wer=(0.1 + penalty,),
        )
        for block, penalty in enumerate(penalties)
    ]
    rising = sorted(scores, key=lambda score: score.penalty)
    return Ranking(
        blocks=tuple(rising),
        # As ambient together as the last of them alone.
        cumulative=tuple(rising),
        baseline_wer=0.1,
        method="rerandomise",
        seeds=(1,),
        step=10,
        model_hash="",
        data_hash="",
        utterances=3,
        words=30,
        command="",
    )


@pytest.fixture
def family():
    rows = [(0.0, 0.0, 0.3, 0.5), (0.0, 0.1, 0.2, 0.6)]
    studied = [
        Studied(family="four", seed=seed, ranking=ranking_of(*row)) for seed, row in enumerate(rows)
    ]
    return Family(name="four", runs=tuple(studied))


def test_ambient_blocks_are_counted_over_runs(family):
    assert claims.sizes(family, MARGIN) == {
        "runs": 2,
        "wer": pytest.approx(0.1),
        "ambient": 1.5,
        "ambient_least": 1,
        "ambient_most": 2,
        "ambient_share": 0.375,
        "ambient_together": 1.5,
    }


def test_first_weights_are_held_against_fresh_ones(family):
    found = claims.resets(family)
    assert found["fresh_less_first"] == pytest.approx(0.01)
    assert found["first_no_worse"] == 1
    assert found["first_fresh_rho"] == pytest.approx(1)
    assert found["rise"] == pytest.approx(1.7 / 8)
    assert found["rise_half_together"] == pytest.approx(0.05)


def test_critical_blocks_are_told_by_their_place(family):
    found = claims.places(family, MARGIN)
    assert found["critical_lower_half"] == 0.5
    assert found["critical_upper_half"] == 2
    # Ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4 against 1, 2, 3, 4.
    assert found["penalty_place_rho"] == pytest.approx((4.5 / np.sqrt(22.5) + 1) / 2)


def test_runs_are_held_against_one_another(family):
    found = claims.runs(family, MARGIN)
    assert found["ambient_in_all"] == 1
    assert found["range"] == pytest.approx(0.3 / 4)
    assert found["range_of_ambient"] == 0
    # Of six pairs of blocks five are in order in both, one is tied in one: 5 / sqrt(5 x 6).
    assert found["tau_between_runs"] == pytest.approx(5 / np.sqrt(30))


def test_churn_in_a_geometric_row_lies_on_a_line(tmp_path):
    rows = [f"{step},{m},{b},{v}" for step, m, b, v in [
        (5, "attention", 0, 9), (5, "attention", 1, 3), (5, "attention", 2, 4),
        (9, "attention", 0, 1), (9, "attention", 1, 2), (9, "attention", 2, 4),
        (9, "convolution", 0, 1), (9, "convolution", 1, 4), (9, "convolution", 2, 1),
        (9, "norm", 0, 0),
    ]]  # fmt: skip
    (tmp_path / "churn.csv").write_text("\n".join(["step,module,block,moved", *rows]) + "\n")
    found = claims.churn([tmp_path])
    assert found["churn_rho attention"] == pytest.approx(1)
    assert found["churn_r2 attention"] == pytest.approx(1)
    assert found["churn_r2 convolution"] == pytest.approx(0)


def test_a_study_over_training_is_told_by_checkpoint(tmp_path):
    rows = ["10,ambient,0.0", "10,critical,0.1", "20,ambient,0.0", "20,critical,0.4"]
    (tmp_path / "over_training.csv").write_text("\n".join(["step,verdict,penalty", *rows]) + "\n")
    found = claims.over_training(tmp_path)
    assert found["10"] == {
        "ambient": 1,
        "separation": pytest.approx(0.1),
        "agreement_with_last": pytest.approx(1),
    }
    assert found["20"]["separation"] == pytest.approx(0.4)


def test_a_study_of_one_checkpoint_says_nothing_over_training(tmp_path):
    assert claims.over_training(tmp_path) == {}
