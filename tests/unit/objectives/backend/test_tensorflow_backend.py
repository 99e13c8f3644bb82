"""Calls that configure TensorFlow."""

from __future__ import annotations

import pytest
import tensorflow as tf

from objectives.backend.tensorflow import TensorFlow
from objectives.base import Device


@pytest.mark.parametrize("limit", [None, 19 * 2**30])
def test_tensorflow_limits_its_gpu_memory(limit, monkeypatch):
    """The calls on a made-up GPU; TensorFlow has to obey them."""
    called = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind} 0"])
    monkeypatch.setattr(tf.config, "set_logical_device_configuration", lambda *args: called.append(args))
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda *args: called.append(("growth", *args))
    )
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", lambda _: None)
    monkeypatch.setattr(tf.config.threading, "set_inter_op_parallelism_threads", lambda _: None)
    TensorFlow().configure(Device("gpu:0", gpu="0", gpu_memory_bytes=limit))
    if limit is None:
        assert called == [("growth", "GPU 0", True)]
    else:
        ((gpu, (logical,)),) = called
        assert (gpu, logical.memory_limit) == ("GPU 0", 19 * 1024)
