"""The training step of TensorFlowASR's small Conformer, with a transducer or with CTC.

A worker of `benchmarks.transducer` and `benchmarks.training`, for the interpreter of
TensorFlowASR's own environment. The settings are those of
`examples/models/transducer/conformer/small.yml.j2` of its release 2.1.0, without augmentation;
where they are left out, they are its defaults.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_asr import schemas
from tensorflow_asr.models.ctc.conformer import Conformer as CtcConformer
from tensorflow_asr.models.transducer.conformer import Conformer

from benchmarks.step_workers import answer_steps

_SPEECH = {
    "sample_rate": 16000,
    "frame_ms": 25,
    "stride_ms": 10,
    "num_feature_bins": 80,
    "feature_type": "log_mel_spectrogram",
}
_SUBSAMPLING = {
    "class_name": "tensorflow_asr.models.layers.subsampling>Conv2dSubsampling",
    "config": {
        "filters": [144, 144],
        "kernels": [3, 3],
        "strides": [2, 2],
        "paddings": ["causal", "causal"],
        "norms": ["batch", "batch"],
        "activations": ["swish", "swish"],
    },
}
_L2 = {"class_name": "l2", "config": {"l2": 1e-6}}


def main() -> None:
    """Answers with the steps of a batch: FOLDER transducer|ctc."""
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    waveforms, tokens = (np.load(folder / f"{name}.npy") for name in ("waveforms", "tokens"))
    (batch, samples), num_tokens = waveforms.shape, tokens.shape[1]
    settings = {
        "blank": 0,
        "vocab_size": 1024,
        "speech_config": _SPEECH,
        "encoder_subsampling": _SUBSAMPLING,
        "encoder_mhsam_use_attention_bias": True,
        "kernel_regularizer": _L2,
        "bias_regularizer": _L2,
    }
    if kind == "ctc":
        model = CtcConformer(**settings)
    else:
        model = Conformer(prediction_embed_dim=320, joint_dim=320, **settings)
    shapes = model.make([samples], [num_tokens + 1], batch_size=batch)
    model.compile(keras.optimizers.Adam(1e-4), output_shapes=shapes)
    # The blank is its token 0, and stands for the start as well.
    labels = tf.constant(tokens + 1)
    inputs = schemas.TrainInput(
        inputs=tf.constant(waveforms),
        inputs_length=tf.fill([batch], samples),
        predictions=tf.pad(labels, [[0, 0], [1, 0]]),
        predictions_length=tf.fill([batch], num_tokens + 1),
    )
    data = (inputs, schemas.TrainLabel(labels, tf.fill([batch], num_tokens)))
    step = tf.function(lambda: model.train_step(data)[0]["loss"])
    answer_steps(model.count_params(), lambda: float(step()))


if __name__ == "__main__":
    main()
