"""The last step before a checkpoint stays in the curves, and the steps after it are replaced."""

import pytest
from test_tensorboard_log import scalars

from bilm.training.tensorboard_log import event_file


def test_the_point_of_the_step_that_was_done_last_stays(tmp_path):
    pytest.importorskip("tensorboard")
    with event_file(tmp_path, 0) as record:
        for step in (49, 50, 51):
            record(step, {"loss": float(step)})
    with event_file(tmp_path, 50) as record:
        record(52, {"loss": 1.0})
    assert scalars(tmp_path) == {"loss": {49: 49.0, 50: 50.0, 52: 1.0}}
