"""Shared code of the peers' scripts: the service's network with stock `compile` and `fit`.

Every epoch of every trial is appended with its time to `epochs-PID.jsonl`, from which all peers are measured.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bench.jobs import mnist_job
from objectives.augment import Augmentation
from objectives.base import Params
from objectives.data.splits import Data

MOMENTUM = 0.9


def compiled(params: Params, data: Data) -> keras.Model:
    """Return the service's network with Keras' own optimizers and a constant learning rate."""
    model = mnist_job.MnistPart().build(params, data)
    rate = params["learning_rate"]
    if params["optimizer"] == "sgd":
        optimizer: Any = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True)
    else:
        optimizer = keras.optimizers.Adam(rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    return model


class Augmented(keras.utils.PyDataset):
    """Shuffled batches of the training images, augmented as in the service's objective."""

    def __init__(self, data: Data, batch_size: int, augmentation: Augmentation) -> None:
        super().__init__()
        self._data, self._batch_size, self._augmentation = data, batch_size, augmentation
        self._rng = np.random.default_rng()
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._data.x_train))

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._augmentation(self._data.x_train[chosen], self._rng), self._data.y_train[chosen]


def fed(params: Params, data: Data, augmentation: Augmentation | None) -> dict[str, Any]:
    """Return the data arguments of `model.fit`: plain arrays, or a `PyDataset` that augments them."""
    validation = {
        "validation_data": (data.x_valid, data.y_valid),
        "validation_batch_size": params["batch_size"],
    }
    if augmentation is not None:
        return {"x": Augmented(data, params["batch_size"], augmentation), **validation}
    return {"x": data.x_train, "y": data.y_train, "batch_size": params["batch_size"], **validation}


def fit(
    params: Params,
    data: Data,
    augmentation: Augmentation | None,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
) -> float:
    """Train one configuration with `model.fit`; return its validation accuracy after the last epoch."""
    # Without it, Keras' global state grows from trial to trial.
    keras.utils.clear_session()
    model = compiled(params, data)
    history = model.fit(**fed(params, data, augmentation), epochs=epochs, callbacks=callbacks, verbose=0)
    return float(history.history["val_accuracy"][-1])


class EpochLog(keras.callbacks.Callback):
    """Writes time and validation accuracy of each epoch of a trial."""

    def __init__(self, folder: Path, trial: object = None) -> None:
        super().__init__()
        self._folder, self._trial = str(folder), trial

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        (Path(self._folder) / f"training-{os.getpid()}").touch()
        # KerasTuner uses one callback for all trials.
        self._name = self._trial if self._trial is not None else f"{os.getpid()}-{time.time()}"

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        line = {"at": time.time(), "trial": self._name, "epoch": epoch + 1, "value": logs["val_accuracy"]}
        with (Path(self._folder) / f"epochs-{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
