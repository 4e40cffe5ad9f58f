import re

import pytest
from starlette.testclient import TestClient

from tfasr.serving.app import make_app
from tfasr.serving.page_routes import OPEN_PATHS, describe_blocks

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def client(streaming_folder, service_of, tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with TestClient(make_app(service_of(streaming_folder, token_file=file))) as client:
        yield client


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_the_page_loads_before_a_token_is_known(client, path):
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_the_page_asks_nobody_else_for_anything(client, path):
    text = client.get(path).text
    assert not re.search(r"(https?|wss?)://|@import|eval\(|innerHTML|\bstyle=|\bon[a-z]+=", text)


def test_all_that_the_page_asks_for_is_there(client):
    text = "".join(client.get(path).text for path in OPEN_PATHS)
    asked = set(re.findall(r'"(/[a-z0-9/._-]+)"', text))
    assert asked >= {"/page/style.css", "/page/main.js", "/page/audio.js", "/page/recorder.js"}
    for path in asked - {"/v1/audio/transcriptions"}:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get(path, headers=headers).status_code == 200


def test_every_control_has_a_name(client):
    page = client.get("/").text
    for name in re.findall(r'<input id="([a-z-]+)"', page):
        assert f'<label for="{name}">' in page
    assert '<html lang="en">' in page
    assert 'aria-live="polite"' in page


def test_the_model_is_told_to_those_with_the_token(client):
    assert client.get("/page/model.json").status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    about = client.get("/page/model.json", headers=headers).json()
    assert about == {
        "name": "streaming",
        "version": 1,
        "sample_rate": 8000,
        "streams": True,
        "blocks": [],
        "summary": "The export says nothing of its blocks.",
    }


def test_each_block_has_the_form_that_it_was_frozen_in():
    facts = {"blocks": 3, "parameters": 12345, "frozen": {"as": "seed", "blocks": [2, 0]}}
    assert describe_blocks(facts) == {
        "blocks": ["seed", "plain", "seed"],
        "summary": "2 of 3 blocks frozen; 12,345 parameters.",
    }


@pytest.mark.parametrize(
    "facts",
    [
        {"blocks": 2, "frozen": {}},
        {"blocks": 2, "frozen": {"as": "int8", "blocks": 7}},
        {"blocks": 2, "frozen": {"as": "int8", "blocks": [2, -1, "0", None]}},
    ],
)
def test_a_garbled_export_has_no_frozen_blocks(facts):
    assert describe_blocks(facts)["blocks"] == ["plain", "plain"]
