"""What the files of deploy/ say, held against the server, its settings and the model in git."""

import re
from pathlib import Path

import pytest
import tensorflow as tf
import yaml
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfasr.configs.loading import make_parser
from tfasr.configs.serving import GatheringConfig, ServeConfig
from tfasr.export.artefact import check_version
from tfasr.export.warmup import WARMUP

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MODEL = ROOT / "saved_models" / "digits"


@pytest.fixture(scope="module")
def compose():
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{(\w+):-(\w+)\}", r"\2", text))


@pytest.fixture(scope="module")
def kubernetes():
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return deployment, service


@pytest.fixture(scope="module")
def kserve():
    return yaml.safe_load((DEPLOY / "kserve.yaml").read_text())


def mounts(service):
    """Folders on this machine by the paths that a compose service sees them under."""
    found = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found[target] = (DEPLOY / source).resolve()
    return found


def published(service):
    """The ports of a compose service; each is the same outside, on loopback only."""
    found = set()
    for port in service["ports"]:
        host, outer, inner = port.split(":")
        assert (host, outer) == ("127.0.0.1", inner)
        found.add(int(inner))
    return found


def settings(command):
    """The settings of a command `tfasr serve ...`."""
    stage, *options = command
    assert stage == "serve"
    parser = make_parser(ServeConfig)
    return ServeConfig(**vars(parser.instantiate(parser.parse_args(options))))


def test_the_model_in_git_is_small_whole_and_of_stock_operations():
    [version] = [path for path in MODEL.iterdir() if path.name.isdigit()]
    assert check_version(version)["operations"] > 0
    assert sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) < 8e6


def test_stock_serving_finds_the_model_and_the_batching(compose):
    stock = compose["services"]["stock"]
    folders = mounts(stock)
    # The image's own entry point serves /models/${MODEL_NAME} on these two ports.
    assert folders["/models"] / stock["environment"]["MODEL_NAME"] == MODEL
    assert published(stock) == {8500, 8501}
    [file] = [o.split("=")[1] for o in stock["command"] if "batching_parameters_file" in o]
    assert folders[file] == DEPLOY / "batching.config"
    assert "--enable_batching=true" in stock["command"]


def test_our_server_starts_as_composed(compose):
    ours = compose["services"]["tfasr"]
    config = settings(ours["command"])
    assert mounts(ours)[str(config.model.parent)] / config.model.name == MODEL
    assert published(ours) == {config.port, config.grpc_port}
    assert str(config.token_file) == "/run/secrets/token"
    assert ours["secrets"] == ["token"]
    assert f":{config.port}/readyz" in ours["healthcheck"]["test"][-1]
    assert int(ours["stop_grace_period"].removesuffix("s")) > config.stop_seconds


def test_the_two_servers_share_no_port(compose):
    stock, ours = (published(compose["services"][name]) for name in ("stock", "tfasr"))
    assert not stock & ours


def test_our_server_starts_on_kubernetes(kubernetes):
    pod = kubernetes[0]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    config = settings(container["args"])
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert paths.keys() == {volume["name"] for volume in pod["volumes"]}
    assert config.model == Path(paths["models"]) / MODEL.relative_to(ROOT)
    assert str(config.token_file) == f"{paths['token']}/token"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.port, "grpc": config.grpc_port}
    assert pod["terminationGracePeriodSeconds"] > config.stop_seconds


def test_probes_ask_for_what_needs_no_token(kubernetes):
    [container] = kubernetes[0]["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {(p["path"], p["port"]) for p in probes} == {("/healthz", "http"), ("/readyz", "http")}


def test_the_service_finds_the_pods_and_their_ports(kubernetes):
    deployment, service = kubernetes
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    named = {p["name"]: p["containerPort"] for p in template["spec"]["containers"][0]["ports"]}
    for port in service["spec"]["ports"]:
        assert named[port["targetPort"]] == port["port"]


def test_kserve_serves_the_folder_under_the_name_of_its_warm_up(kserve):
    predictor = kserve["spec"]["predictor"]
    name = kserve["metadata"]["name"]
    assert name == MODEL.name
    assert predictor["model"]["storageUri"] == f"pvc://models/{MODEL.relative_to(ROOT)}"
    for record in tf.data.TFRecordDataset(str(MODEL / "1" / WARMUP)).as_numpy_iterator():
        spec = PredictionLog.FromString(record).predict_log.request.model_spec
        assert spec.name == name


def test_kserve_mounts_the_batching_it_names(kserve):
    predictor = kserve["spec"]["predictor"]
    [mount] = predictor["model"]["volumeMounts"]
    [volume] = predictor["volumes"]
    assert mount["name"] == volume["name"]
    file = f"{mount['mountPath']}/batching.config"
    assert f"--batching_parameters_file={file}" in predictor["model"]["args"]


def test_stock_serving_gathers_as_our_server_does():
    text = (DEPLOY / "batching.config").read_text()
    values = {name: int(n) for name, n in re.findall(r"^(\w+) \{ value: (\d+) \}$", text, re.M)}
    ours = GatheringConfig()
    assert values["max_batch_size"] == ours.max_batch
    assert values["batch_timeout_micros"] == ours.delay_seconds * 1e6
    assert values["max_batch_size"] * values["max_enqueued_batches"] == ours.queue
    assert "pad_variable_length_inputs: true" in text


def test_the_image_copies_what_there_is_and_is_let_in():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    sources = [s for line in lines if line.startswith("COPY") for s in line.split()[1:-1]]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
