import json

import numpy as np

from tfasr.preparation.frame_sums import FrameSums

FRAMES = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])


def test_mean_and_deviation_by_hand():
    sums = FrameSums(2)
    sums.add(FRAMES)
    statistics = sums.statistics()
    assert statistics["frames"] == 3
    assert statistics["mean"] == [3.0, 5.0]
    # The second never varies, and has the least deviation.
    np.testing.assert_allclose(statistics["deviation"], [(8 / 3) ** 0.5, 0.01])


def test_sums_of_parts_add_up():
    whole, parts = FrameSums(2), FrameSums(2)
    whole.add(FRAMES)
    for part in (FRAMES[:1], FRAMES[1:]):
        sums = FrameSums(2)
        sums.add(part)
        parts.merge(json.loads(json.dumps(sums.to_json())))
    assert parts.statistics() == whole.statistics()
