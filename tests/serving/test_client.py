import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tfasr.serving.client import ServerError, transcribe_url


@pytest.fixture
def answering():
    """Starts servers that give each request one answer; makes the URL of a model."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.paths.append(self.path)
                server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        server.paths, server.bodies = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server, f"http://127.0.0.1:{server.server_port}/v1/models/demo"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_audio_is_sent_as_base64_rows(answering):
    server, url = answering(200, json.dumps({"predictions": ["one", "zwei é"]}).encode())
    assert transcribe_url(url, [b"a", b"bc"]) == ["one", "zwei é"]
    assert server.paths == ["/v1/models/demo:predict"]
    assert json.loads(server.bodies[0]) == {"instances": [{"b64": "YQ=="}, {"b64": "YmM="}]}


def test_nothing_is_not_sent():
    assert transcribe_url("http://127.0.0.1:1/v1/models/demo", []) == []


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_has_the_servers_reason(answering, status):
    _, url = answering(status, b'{"error": "instance 0: too\\nlong"}')
    with pytest.raises(ValueError, match=r"^instance 0: too long$"):
        transcribe_url(url, [b"a"])


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"error": "nothing here"}', "status 404; nothing here"),
        (500, b"<html>\n oops", "status 500; <html> oops"),
        (200, b'{"predictions": []}', "status 200; "),
        (200, b'{"predictions": [1]}', "status 200; "),
        (200, b"[]", "status 200; "),
    ],
)
def test_what_is_no_answer_is_a_server_error(answering, status, body, message):
    _, url = answering(status, body)
    with pytest.raises(ServerError, match=message):
        transcribe_url(url, [b"a"])


def test_a_server_that_is_not_there_is_told_on_one_line():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=r"^[^\n]*no answer; [^\n]*is `tfasr serve` running"):
        transcribe_url(f"http://127.0.0.1:{port}/v1/models/demo", [b"a"])
