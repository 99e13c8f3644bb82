"""A run that is resumed on JAX ends as an uninterrupted one, to the last digit, with every network that is shipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from objectives import loader
from objectives.base import DataOptions
from objectives.data import datasets
from objectives.data.arrays import Arrays
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
IMAGES = 40


def made_up(name: str, _data_dir: object, _test: bool, **_: object) -> Arrays:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPES[name]), np.uint8)
    return Arrays(images, np.arange(IMAGES) % 10, None, None)


def trained(objective: KerasObjective, device: Device, **more: Any) -> LocalRun:
    run = LocalRun(total_epochs=2, seed=3, device=device, **more)
    objective.train(objective.first[0] | {"batch_size": 16, "dropout": 0.3, "weight_decay": 1e-3}, run)
    return run


def exact(run: LocalRun) -> list[dict[str, float]]:
    return [{name: one for name, one in row.items() if name != "images_per_second"} for row in run.history]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("mnist-cnn", "float32"),
        ("mnist-cnn", "bfloat16"),
        ("mnist-resnet", "float32"),
        ("cifar-cnn", "float32"),
        ("cifar-resnet", "float32"),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(monkeypatch, name, precision):
    monkeypatch.setattr(datasets, "load", made_up)
    objective = loader.load(name)()
    assert objective.augmentation is not None
    objective.prepare(DataOptions(validation_fraction=0.2), final=False)
    device = Device(precision=precision)
    whole = trained(objective, device)
    half = trained(objective, device, stop_after=1)
    resumed = trained(objective, device, resume=half.checkpoint)
    assert exact(half) + exact(resumed) == exact(whole)
    assert whole.history[0]["loss"] != whole.history[1]["loss"]
    states = [run.checkpoint.state for run in (resumed, whole)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)
