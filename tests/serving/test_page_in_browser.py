"""The page in headless Chromium, driven over its DevTools protocol."""

import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest
from websockets.sync.client import connect

from tfasr.audio.decoding import write_wav

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH"),
]


class Tab:
    """A page of the browser."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = itertools.count(1)
        self.session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")

    problems = ()

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params, **self.session}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems = (*self.problems, json.dumps(answer["params"]))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script):
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script):
        """Waits until an expression is true, asking at each frame of the page."""
        waiting = f"""new Promise((resolve, reject) => {{
            const end = performance.now() + 30000;
            const look = () => {{
                if ({script}) resolve(true);
                else if (performance.now() > end) reject(new Error(document.body.innerText));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        assert self.value(waiting) is True


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    write_wav(path, np.full(48000, 1000, np.int16), 48000)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory, microphone):
    process = subprocess.Popen(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
            *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
            f"--use-file-for-fake-audio-capture={microphone}",
            f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
            "about:blank",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in process.stderr if "DevTools listening on" in line)
        with connect(line.split()[-1], max_size=None) as socket:
            yield socket
    finally:
        process.terminate()
        process.communicate()


def opened(browser, port):
    tab = Tab(browser)
    tab.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
    tab.until("document.getElementById('model')?.textContent.includes('version')")
    return tab


def test_a_file_that_is_chosen_is_shown_with_its_words(
    browser, timed_folder, service_of, listening, tmp_path
):
    write_wav(tmp_path / "speech.wav", np.full(8000, 1, np.int16), 8000)
    tab = opened(browser, listening(service_of(timed_folder)))
    tab.call("DOM.enable")
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "speech.wav")])
    tab.until("document.querySelectorAll('#words button').length === 2")
    assert tab.value("document.getElementById('text').textContent") == "8000 8000"
    words = tab.value("[...document.querySelectorAll('#words button')].map((b) => b.ariaLabel)")
    assert words == ["8000, 0.00 to 0.50 seconds", "8000, 0.50 to 1.00 seconds"]
    width = tab.value("document.getElementById('canvas').width")
    assert width == tab.value("document.getElementById('scroll').clientWidth") > 320
    whole = ".every((b) => b.scrollWidth <= b.clientWidth)"
    assert tab.value(f"[...document.querySelectorAll('#words button')]{whole}") is True
    assert tab.problems == ()


def test_speech_is_shown_while_it_is_spoken(browser, streaming_folder, service_of, listening):
    tab = opened(browser, listening(service_of(streaming_folder)))
    tab.value("document.getElementById('record').click()")
    tab.until("parseInt(document.getElementById('text').textContent) > 2000")
    assert tab.value("document.getElementById('record').ariaPressed") == "true"
    tab.value("document.getElementById('record').click()")
    tab.until("!document.getElementById('wave').hidden")
    assert tab.value("document.getElementById('error').textContent") == ""
    assert tab.problems == ()


def test_what_is_no_audio_is_told(browser, timed_folder, service_of, listening, tmp_path):
    (tmp_path / "notes.wav").write_text("no audio")
    tab = opened(browser, listening(service_of(timed_folder)))
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "notes.wav")])
    tab.until("document.getElementById('error').textContent.includes('must be an audio file')")
