"""Small objectives of each task on rows of six numbers, and their runs."""

from __future__ import annotations

import keras
import numpy as np
from optuna.distributions import FloatDistribution

from objectives.base import DataOptions
from objectives.data import arrays
from objectives.data.splits import split
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from tests.unit.objectives.training.kept import KEPT, with_programs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
LOGITS = X @ RNG.normal(size=(6, 3)) * 3
TARGETS = {
    "classes": np.array(["cat", "dog", "eel"])[LOGITS.argmax(axis=1)],
    "labels": LOGITS > 0,
    "binary": LOGITS[:, 0] > 1.0,
    "regression": LOGITS[:, :2] * 100 + 5000,
}
CLASSIFIED = {"val_accuracy", "val_loss", "accuracy", "loss", "learning_rate", "images_per_second"}
"""Metrics that a trial of a classifier reports after each epoch unless its objective names others."""
PARAMS = {"learning_rate": 0.05, "batch_size": 16}
DEVICE = Device(precision="float32")


def rows(x, part):
    return {name: array[part] for name, array in x.items()} if isinstance(x, dict) else x[part]


def prepared(objective, final=False):
    """Return the objective with its data: 80 examples to train and validate on, 40 to test."""
    cls, parts = type(objective), {"train": slice(80), "test": slice(80, None)}
    pairs = {split: (rows(cls.x, part), cls.targets[part]) for split, part in parts.items()}
    objective._data = split(arrays.checked(pairs, cls.task), DataOptions(), final)
    return objective


class Tabular(KerasObjective):
    """A linear model with dropout."""

    epochs = 3
    space = {"learning_rate": FloatDistribution(0.001, 0.1)}

    def build(self, params, data):  # noqa: ARG002 - nothing to tune in it
        inputs = keras.Input(data.input_shape)
        x = keras.layers.Dropout(0.1)(inputs)
        return keras.Model(inputs, keras.layers.Dense(data.output_size, name="head")(x))


def made(task, base=Tabular, **attributes):
    """Return an objective of a task, with its data for a trial."""
    given = {"task": task, "x": X, "targets": TARGETS[task]}
    return prepared(type("Made", (base,), given | attributes)())


def trained(objective, total=3, kept=False, **options):
    """Return a run of three epochs, with the programs of other tests if they are to be `kept`."""
    if kept:
        with_programs(objective, KEPT)
    else:
        objective._programs = None
    run = LocalRun(total, seed=3, device=DEVICE, **options)
    if run.final:
        prepared(objective, final=True)
    objective.train(PARAMS, run)
    return run


def own_cross_entropy(targets, outputs):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True))


PAIRS = {"image": RNG.integers(0, 2**16, (120, 4, 4, 1)).astype(np.uint16), "row": X}


class TwoInputs(Tabular):
    def build(self, params, data):  # noqa: ARG002
        inputs = {name: keras.Input(shape, name=name) for name, shape in data.input_shape.items()}
        flat = [keras.layers.Rescaling(1 / 65535)(keras.layers.Flatten()(inputs["image"])), inputs["row"]]
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(keras.layers.Concatenate()(flat)))
