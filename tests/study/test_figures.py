from dataclasses import replace

import numpy as np

from tfasr.study.figures import draw_blocks
from tfasr.study.ranking import BlockScore, Ranking
from tfasr.study.reset import BlockErrors
from tfasr.study.scores import score_block


def score(block, penalty):
    return BlockScore(
        block=block,
        wer=0.1 + penalty,
        penalty=penalty,
        interval=(penalty - 0.01, penalty + 0.01),
        reinitialised_wer=0.2,
        rerandomised_wer=(0.1, 0.3),
    )


RANKING = Ranking(
    blocks=(score(1, -0.01), score(0, 0.5)),
    baseline_wer=0.1,
    method="rerandomise",
    seeds=(1, 2),
    step=10,
    model_hash="",
    data_hash="",
    utterances=3,
    words=9,
    command="",
)


def assert_is_png(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_a_figure_is_a_whole_png(tmp_path):
    draw_blocks(RANKING, 0.02, tmp_path / "study" / "blocks.png")
    assert_is_png(tmp_path / "study" / "blocks.png")
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["blocks.png"]


def test_a_figure_is_replaced(tmp_path):
    (tmp_path / "blocks.png").write_text("old")
    draw_blocks(RANKING, 0.02, tmp_path / "blocks.png")
    assert_is_png(tmp_path / "blocks.png")


def test_an_interval_without_width_is_drawn(tmp_path):
    # 12 errors of 11 words against 5: penalty and interval differ in their last bit.
    errors = BlockErrors(np.array([11]), np.array([[11], [12], [13]]))
    result = score_block(0, errors, np.array([5]), np.array([11]))
    ranking = replace(RANKING, blocks=(result,))
    draw_blocks(ranking, 0.02, tmp_path / "blocks.png")
    assert_is_png(tmp_path / "blocks.png")
