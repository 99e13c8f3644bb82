"""Calls that configure TensorFlow."""

from __future__ import annotations

import copy
import math

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context

from objectives.backend.tensorflow import TensorFlow
from objectives.base import DataOptions
from objectives.device import Device
from objectives.local_run import LocalRun
from objectives.shipped.digits_cnn import DigitsCNN


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


@pytest.mark.parametrize(("divided", "share"), [(False, 0.4875), (True, 0.0)])
def test_tensorflow_of_any_objective_is_limited_to_its_share_of_a_gpu(monkeypatch, divided, share):
    """Unless the objective divides the GPU into logical devices, whose limits TensorFlow refuses next to a share."""
    options = config_pb2.GPUOptions()
    if divided:
        options.experimental.virtual_devices.add(memory_limit_mb=[1024])
    monkeypatch.setattr(context.Context, "_compute_gpu_options", lambda _: copy.deepcopy(options))
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    backend = TensorFlow()
    # TensorFlow is imported here already; test_logs.py imports it in the trial.
    backend.share_gpu(0.4875)
    assert context.Context().config.gpu_options.per_process_gpu_memory_fraction == share
    backend.share_gpu(None)
    assert context.Context().config.gpu_options.per_process_gpu_memory_fraction == 0.0


def test_digits_train_where_functions_run_eagerly():
    """Users switch this on to debug a layer of their own."""
    objective = DigitsCNN()
    objective.prepare(DataOptions(limit=20), final=False)
    run = LocalRun(total_epochs=1, metric="val_loss")
    tf.config.run_functions_eagerly(True)
    try:
        objective.train(dict(objective.first[0]), run)
    finally:
        tf.config.run_functions_eagerly(False)
    assert math.isfinite(run.history[0]["loss"])
