"""Requests that TensorFlow Serving asks itself before a version takes others'."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfasr.artifacts.files import atomic_path
from tfasr.audio.decoding import wav_bytes

# Where TensorFlow Serving looks.
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
_SECONDS = (1, 5, 10)


def write_warmup(folder: Path, name: str, sample_rate: int) -> bool:
    """Writes requests of silence of several lengths, so that no client waits for the first graph.

    Args:
        folder: Of the version.
        name: Of the model.
        sample_rate: In hertz.

    Returns:
        Whether it could: the messages are those of the package tensorflow-serving-api, without
        which a version is complete but warms up by its first requests.

    Source: TensorFlow Serving, "SavedModel Warmup": a TFRecord file of PredictionLog.
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        return False
    log = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    predict = importlib.import_module("tensorflow_serving.apis.predict_pb2")
    with (
        atomic_path(folder / WARMUP) as staged,
        tf.io.TFRecordWriter(str(staged)) as writer,
    ):
        for seconds in _SECONDS:
            audio = wav_bytes(np.zeros(seconds * sample_rate, np.int16), sample_rate)
            request = predict.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            request.inputs["audio"].CopyFrom(tf.make_tensor_proto([audio]))
            predicted = log.PredictLog(request=request)
            writer.write(log.PredictionLog(predict_log=predicted).SerializeToString())
    return True
