import asyncio
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from tfasr.audio.decoding import wav_bytes
from tfasr.serving.client import Client, Said, transcribe_url
from tfasr.serving.errors import ServerError
from tfasr.serving.transcripts import Spoken, Transcript


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


WAV = wav_bytes(np.zeros(4000, np.int16), 8000)
PREDICTION = {"text": "a", "words": ["a", ""], "starts": [0.5, -1.0], "ends": [0.75, -1.0]}
TRANSCRIPT = Transcript(text="a", seconds=0.5, words=(Spoken(text="a", start=0.5, end=0.75),))


def test_times_of_words_and_the_length_of_a_file_are_read(answering):
    _, url = answering(200, json.dumps({"predictions": [PREDICTION]}).encode())
    assert Client(url=url).transcribe([WAV]) == [TRANSCRIPT]


def test_the_asynchronous_call_gives_the_same(answering):
    server, url = answering(200, json.dumps({"predictions": [PREDICTION]}).encode())
    assert asyncio.run(Client(url=url).transcribe_beside([WAV])) == [TRANSCRIPT]
    assert asyncio.run(Client(url=url).transcribe_beside([])) == []
    assert len(server.bodies) == 1


TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def stream_url(streaming_folder, service_of, listening, tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    port = listening(service_of(streaming_folder, token_file=file, max_stream_seconds=1.0))
    return f"http://127.0.0.1:{port}/v1/models/streaming"


async def parts(*pcm):
    for part in pcm:
        yield part


def streamed(client, pcm):
    async def run():
        return [said async for said in client.stream(pcm)]

    return asyncio.run(run())


def test_a_live_stream_gives_its_text_as_it_grows(stream_url):
    samples = np.arange(50, dtype="<i2")
    client = Client(url=stream_url, token=TOKEN)
    said = streamed(client, parts(samples[:45].tobytes(), samples[45:].tobytes()))
    assert said[0].text == f"30 {samples[:30].sum()}"
    assert said[-1] == Said(text=f"50 {samples.sum()}", seconds=50 / 8000, is_final=True)


def test_a_stream_that_is_refused_has_the_servers_reason(stream_url):
    with pytest.raises(ValueError, match="a stream must last at most 1 s"):
        streamed(Client(url=stream_url, token=TOKEN), parts(bytes(2 * 8001)))


def test_a_fault_of_the_speaker_ends_the_stream(stream_url):
    async def breaking():
        yield bytes(100)
        raise KeyError("microphone")

    with pytest.raises(KeyError, match="microphone"):
        streamed(Client(url=stream_url, token=TOKEN), breaking())


def test_a_wrong_token_is_a_server_error(stream_url):
    for client in (Client(url=stream_url), Client(url=stream_url, token="wrong")):
        with pytest.raises(ServerError, match=r"no answer; .*403"):
            streamed(client, parts())
        with pytest.raises(ServerError, match="status 401; this needs the server's token"):
            client.transcribe([WAV])
