"""`model.fit` as users write it, in `run.fit`; python fit_for_tests.py SEED PARAMS trains without the service."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from optuna.distributions import FloatDistribution

from hpo import LocalRun, Objective


class Noisy(Objective):
    """A small network on noise, whose validation loss soon rises."""

    metric, direction, epochs = "val_loss", "minimize", 30
    space = {"rate": FloatDistribution(0.02, 0.04), "dropout": FloatDistribution(0.1, 0.3)}

    def train(self, params: Any, run: Any) -> None:
        """Fit with callbacks that count over epochs, whose counts are metrics too."""
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=6, restore_best_weights=True)
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.7, patience=2)

        class Counts(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
                self.epoch = epoch + 1

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
                if batch == 1:
                    hold(self.epoch)

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
                logs |= {"patience": stopping.wait, "best": stopping.best, "wait": plateau.wait}

        keras.utils.set_random_seed(run.seed)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(96, 8)), rng.normal(size=(96, 1))
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, "relu"),
                keras.layers.Dropout(params["dropout"]),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.Adam(params["rate"]), "mse", metrics=["mae"])
        callbacks = [stopping, plateau, Counts()]
        run.fit(
            model, x[:64], y[:64], batch_size=16, validation_data=(x[64:80], y[64:80]), callbacks=callbacks
        )
        run.evaluate(model, x[80:], y[80:])


def hold(epoch: int, ends: Callable[[], bool] = lambda: False) -> None:
    """Wait in an epoch of TEST_HOLD until `ends` or this process is killed, once for each of them."""
    if str(epoch) not in os.environ.get("TEST_HOLD", "").split():
        return
    try:
        Path(f"held-{epoch}").touch(exist_ok=False)
    except FileExistsError:
        return
    while not ends():
        time.sleep(0.05)


if __name__ == "__main__":
    run = LocalRun(Noisy.epochs, seed=int(sys.argv[1]))
    Noisy().train(json.loads(sys.argv[2]), run)
    print(json.dumps(run.history))
