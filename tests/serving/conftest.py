import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfasr.configs.serving import ServeConfig
from tfasr.serving.answers import Answer
from tfasr.serving.runtime import ServedModel
from tfasr.serving.server import web_server
from tfasr.serving.service import Service
from tfasr.serving.versions import Versions

SAMPLE_RATE = 8000


class CountingModel(tf.Module):
    """A model of the exported form whose text is the number of samples and their sum."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def serving_default(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(tf.map_fn(self._text_of_wav, audio))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
        ]
    )
    def waveforms(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        real = tf.sequence_mask(num_samples, tf.shape(waveforms)[1], tf.float32)
        return self._answer(self._text(num_samples, tf.reduce_sum(waveforms * real, 1)))

    def _answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": text}

    def _text_of_wav(self, wav: tf.Tensor) -> tf.Tensor:
        samples, rate = tf.audio.decode_wav(wav, desired_channels=1)
        with tf.control_dependencies([tf.debugging.assert_equal(rate, SAMPLE_RATE)]):
            return self._text(tf.shape(samples)[0], tf.reduce_sum(samples))

    def _text(self, num_samples: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        sums = tf.strings.as_string(tf.cast(tf.round(total * 32768.0), tf.int32))
        return tf.strings.join([tf.strings.as_string(num_samples), sums], " ")


class TimedModel(CountingModel):
    """Also tells that each word takes half a second, and pads what it tells by -1."""

    def _answer(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = tf.strings.to_number(tf.strings.split(text), tf.int32)
        starts = tf.ragged.range(tf.cast(tokens.row_lengths(), tf.int32))
        starts = 0.5 * tf.cast(starts, tf.float32)
        return {
            "text": text,
            "tokens": tf.abs(tokens).to_tensor(-1),
            "words": tf.strings.split(text).to_tensor(""),
            "starts": starts.to_tensor(-1.0),
            "ends": (starts + 0.5).to_tensor(-1.0),
            "score": -tf.cast(tokens.row_lengths(), tf.float32),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
        ]
    )
    def features(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes each sample for a frame, and gives it with its negative."""
        return {"features": tf.stack([waveforms, -waveforms], -1), "num_frames": num_samples}


class NormedModel(CountingModel):
    """Its sums go through the batch norm that two calls at once would corrupt."""

    def _text(self, num_samples: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        image = tf.reshape(total, [1, 1, 1, -1])
        ones, none = tf.ones(tf.shape(image)[3:]), tf.constant([])
        normed = tf.raw_ops.FusedBatchNormV3(
            x=image, scale=ones, offset=ones, mean=none, variance=none, is_training=True
        )
        return super()._text(num_samples, tf.reshape(normed.batch_mean, tf.shape(total)))


class StreamingModel(CountingModel):
    """Counts and sums a stream, 30 of each window's 40 samples until the last, which is short."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="streams")])
    def stream_start(self, streams: tf.Tensor) -> dict[str, tf.Tensor]:
        zeros = tf.zeros([streams], tf.int32)
        return {"heard": zeros, "total": zeros, "said": tf.fill([streams], "")}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 40], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
            tf.TensorSpec([None], tf.int32, name="heard"),
            tf.TensorSpec([None], tf.int32, name="total"),
            tf.TensorSpec([None], tf.string, name="said"),
        ]
    )
    def stream_step(
        self,
        waveforms: tf.Tensor,
        num_samples: tf.Tensor,
        heard: tf.Tensor,
        total: tf.Tensor,
        said: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        new = tf.where(num_samples == 40, 30, num_samples)
        real = tf.sequence_mask(new, 40, tf.float32)
        sums = tf.cast(tf.round(tf.reduce_sum(waveforms * real, 1) * 32768.0), tf.int32)
        heard, total = heard + new, total + sums
        text = tf.strings.join([tf.strings.as_string(heard), tf.strings.as_string(total)], " ")
        tokens = tf.fill([tf.shape(new)[0], 1], -1)
        return {"text": text, "tokens": tokens, "heard": heard, "total": total, "said": text}


def export_streaming_model(folder: Path) -> None:
    model = StreamingModel()
    names = ("serving_default", "waveforms", "stream_start", "stream_step")
    signatures = {name: getattr(model, name) for name in names}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    facts = {"sample_rate": SAMPLE_RATE, "window": {"samples": 40, "shift": 30}}
    (folder / "export.json").write_text(json.dumps(facts))


def export_counting_model(folder: Path, kind: type[CountingModel] = CountingModel) -> None:
    model = kind()
    names = ("serving_default", "waveforms", "features")
    signatures = {name: getattr(model, name) for name in names if hasattr(model, name)}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    (folder / "export.json").write_text(json.dumps({"sample_rate": SAMPLE_RATE}))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "counting"
    export_counting_model(folder / "2")
    return folder


@pytest.fixture(scope="session")
def normed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "normed"
    export_counting_model(folder / "1", NormedModel)
    return folder


@pytest.fixture(scope="session")
def timed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "timed"
    export_counting_model(folder / "1", TimedModel)
    return folder


@pytest.fixture(scope="session")
def streaming_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "streaming"
    export_streaming_model(folder / "1")
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> ServedModel:
    return ServedModel(model_folder, max_seconds=2.0)


@pytest.fixture(scope="session")
def service_of() -> Callable[..., Service]:
    """Makes a service of a model folder with some settings."""

    def make(folder: Path, **settings: Any) -> Service:
        config = ServeConfig(model=folder, **settings)
        return Service(Versions(folder, max_seconds=config.max_seconds), config)

    return make


@pytest.fixture(scope="module")
def listening() -> Iterator[Callable[[Service], int]]:
    """Runs services on ports of their own until the end of the module; tells the port."""
    running = []

    def start(service: Service) -> int:
        server = web_server(service, lifespan="on")
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        return int(listener.getsockname()[1])

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


class WaitingModel(ServedModel):
    """Answers once it is allowed to; notes the size of each batch."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.asked, self.allowed = threading.Event(), threading.Event()
        self.allowed.set()
        super().__init__(folder, **settings)
        self.allowed.clear()
        self.asked.clear()
        self.batches: list[int] = []

    def answers(self, signature: str, values: Any) -> list[Answer]:
        self.asked.set()
        self.allowed.wait(timeout=20)
        if hasattr(self, "batches"):
            self.batches.append(len(values))
        return super().answers(signature, values)


@pytest.fixture(scope="session")
def waiting_model() -> type[WaitingModel]:
    return WaitingModel
