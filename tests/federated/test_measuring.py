import pytest

from tfasr.artifacts.files import read_json
from tfasr.federated.folder import COSTS, create_run
from tfasr.federated.measuring import with_costs
from tfasr.federated.phases import Phase

pytestmark = pytest.mark.federated


@pytest.fixture
def begun(config, plan, make_population):
    """The folder of a run that has its clients and no round."""
    create_run(config, plan)
    make_population(config)
    return config.out


def test_a_client_is_measured_once_in_a_process_of_its_own(begun, plan, sizes):
    phases = [Phase(0, plan, None, sizes)]
    [phase] = with_costs(begun, phases)
    cost = phase.cost
    # Cy speaks most: five utterances of 0.6 to 1 s.
    assert (cost.client, cost.client_steps) == ("cy", 4)
    # Its weights, their first values and gradients at least; the graph's 100 MB and more hide them.
    assert 12 * sizes.parameters_client < cost.client_peak_bytes < 2e9
    assert 0 < cost.client_step_seconds < 60
    written = (begun / COSTS).stat().st_mtime_ns
    assert with_costs(begun, phases) == [phase]
    assert (begun / COSTS).stat().st_mtime_ns == written
    assert read_json(begun / COSTS)["0"]["client_peak_bytes"] == cost.client_peak_bytes
    assert phase.cost.to_row() == {
        "client_peak_bytes": cost.client_peak_bytes,
        "client_step_seconds": cost.client_step_seconds,
    }


def test_a_process_that_can_t_measure_is_told_of(begun, plan, sizes, capfd):
    (begun / "features.json").unlink()
    with pytest.raises(ChildProcessError, match=r"ended with 1\. Leave measure out"):
        with_costs(begun, [Phase(0, plan, None, sizes)])
    assert "features.json: no such file" in capfd.readouterr().err
