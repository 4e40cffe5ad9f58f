import pytest
from starlette.testclient import TestClient

from tfasr.serving.app import make_app

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def client(model_folder, service_of, tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with TestClient(make_app(service_of(model_folder, token_file=file))) as client:
        yield client


@pytest.mark.parametrize("path", ["/metrics", "/v1/models/counting", "/nowhere"])
def test_nothing_is_told_without_the_token(client, path):
    response = client.get(path)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer TOKEN" in response.json()["error"]
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401


def test_the_token_opens_the_rest(client):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/models/counting", headers=headers).status_code == 200


def test_health_is_open(client):
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200
