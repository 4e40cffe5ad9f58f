import json
from pathlib import Path

import pytest
import tensorflow as tf

from tfasr.serving.runtime import ServedModel

SAMPLE_RATE = 8000


class CountingModel(tf.Module):
    """A model of the exported form whose text is the number of samples and their sum."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="audio")])
    def serving_default(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": tf.map_fn(self._text_of_wav, audio)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
        ]
    )
    def waveforms(self, waveforms: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
        real = tf.sequence_mask(num_samples, tf.shape(waveforms)[1], tf.float32)
        return {"text": self._text(num_samples, tf.reduce_sum(waveforms * real, 1))}

    def _text_of_wav(self, wav: tf.Tensor) -> tf.Tensor:
        samples, rate = tf.audio.decode_wav(wav, desired_channels=1)
        with tf.control_dependencies([tf.debugging.assert_equal(rate, SAMPLE_RATE)]):
            return self._text(tf.shape(samples)[0], tf.reduce_sum(samples))

    def _text(self, num_samples: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        sums = tf.strings.as_string(tf.cast(tf.round(total * 32768.0), tf.int32))
        return tf.strings.join([tf.strings.as_string(num_samples), sums], " ")


def export_counting_model(folder: Path) -> None:
    model = CountingModel()
    signatures = {"serving_default": model.serving_default, "waveforms": model.waveforms}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    (folder / "export.json").write_text(json.dumps({"sample_rate": SAMPLE_RATE}))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "counting"
    export_counting_model(folder / "2")
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> ServedModel:
    return ServedModel(model_folder, max_seconds=2.0)
