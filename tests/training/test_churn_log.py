import numpy as np
import tensorflow as tf

from tfasr.models.churn import Churn
from tfasr.training.churn_log import log_churn


def test_each_module_of_a_block_that_has_it_is_a_scalar(tmp_path, scalars_of):
    churn = Churn(
        step=9,
        modules=("attention", "stacking"),
        moved=np.array([[1.0, 4.0], [0.0, 3.0]]),
        first=np.array([[2.0, 2.0], [0.0, 6.0]]),
    )
    log_churn(tf.summary.create_file_writer(str(tmp_path)), churn)
    assert scalars_of(tmp_path) == {
        (9, "churn/attention/block_0"): 0.25,
        (9, "churn/attention/block_1"): 1.0,
        (9, "churn/stacking/block_1"): 1.0,
    }
