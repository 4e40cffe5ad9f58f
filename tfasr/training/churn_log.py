"""Churn in a run's TensorBoard."""

import tensorflow as tf

from tfasr.models.churn import Churn


def log_churn(writer: tf.summary.SummaryWriter, churn: Churn) -> None:
    """Writes the churn metric as scalars `churn/attention/block_3` and so on.

    Args:
        writer: Of the run's events; flushed.
        churn: Of the model at hand. A block without some module has no scalar of it.
    """
    with writer.as_default(step=churn.step):
        for module, values, first in zip(churn.modules, churn.normalised, churn.first, strict=True):
            for block in first.nonzero()[0]:
                tf.summary.scalar(f"churn/{module}/block_{block}", values[block])
    writer.flush()
