"""Requests that TensorFlow Serving asks itself before a version takes others'."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from tfasr.artifacts.files import atomic_path
from tfasr.audio.decoding import wav_bytes

# Where TensorFlow Serving looks.
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
_SECONDS = (1, 5, 10)


def write_warmup(folder: Path, name: str, sample_rate: int) -> None:
    """Writes requests of silence of several lengths, so that no client waits for the first graph.

    Args:
        folder: Of the version.
        name: Of the model.
        sample_rate: In hertz.

    Source: TensorFlow Serving, "SavedModel Warmup": a TFRecord file of PredictionLog.
    """
    with (
        atomic_path(folder / WARMUP) as staged,
        tf.io.TFRecordWriter(str(staged)) as writer,
    ):
        for seconds in _SECONDS:
            audio = wav_bytes(np.zeros(seconds * sample_rate, np.int16), sample_rate)
            request = PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            request.inputs["audio"].CopyFrom(tf.make_tensor_proto([audio]))
            predicted = PredictLog(request=request)
            writer.write(PredictionLog(predict_log=predicted).SerializeToString())
