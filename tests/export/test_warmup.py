import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tfasr.export.warmup import WARMUP, write_warmup


def test_requests_are_of_silence_and_name_the_model(tmp_path):
    write_warmup(tmp_path, "tiny", 8000)
    records = tf.data.TFRecordDataset(str(tmp_path / WARMUP)).as_numpy_iterator()
    requests = [PredictionLog.FromString(record).predict_log.request for record in records]
    lengths = [len(request.inputs["audio"].string_val[0]) for request in requests]
    assert lengths == [44 + 2 * 8000 * seconds for seconds in (1, 5, 10)]
    assert {(r.model_spec.name, r.model_spec.signature_name) for r in requests} == {
        ("tiny", "serving_default")
    }
