import json

import numpy as np
import pytest

from benchmarks.federated_rounds import MODEL, STEPS, clients, pipeline, tensors, write_case
from tfasr.models.layout import layout_without_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("case")
    write_case(made, 1)
    return made


def test_peers_are_given_the_first_rounds_batches(folder):
    [client] = clients(folder, 1)
    ours = list(pipeline().round(client, 0).as_numpy_iterator())
    theirs = list(tensors(client).as_numpy_iterator())
    assert len(ours) == len(theirs) == STEPS
    for one, other in zip(ours, theirs, strict=True):
        for name in ("features", "num_frames", "tokens", "num_tokens"):
            np.testing.assert_array_equal(one[name], other[name])


def test_peers_are_given_every_weight(folder):
    saved = np.load(folder / "weights.npz")
    assert sum(value.size for value in saved.values()) == layout_without_weights(MODEL).parameters()


def test_peers_are_told_the_clients_rate_and_clipping(folder):
    case = json.loads((folder / "case.json").read_text())
    assert (case["learning_rate"], case["clip_norm"], case["batch"]) == (0.05, 5.0, 8)
