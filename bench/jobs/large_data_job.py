"""The objective of `bench.large_data`: a small network that trains on random batches of all rows for some time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import FloatDistribution

from objectives.base import Params, Run
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 64
STEPS = 8
"""Number of batches that are gathered at a time."""


class Large(KerasObjective):
    """Images that may be larger than memory."""

    epochs = 1
    space = {"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}

    def build(self, params: Params, data: Data) -> keras.Model:  # noqa: ARG002 - the interface
        import keras

        layers: list[Any] = [keras.Input(data.image_shape), keras.layers.Rescaling(1 / 255)]
        for width in (16, 32, 64):
            layers.append(keras.layers.Conv2D(width, 3, strides=2, activation="relu"))
        return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])

    def train(self, params: Params, run: Run) -> None:
        from objectives import backend

        assert self._data is not None
        backend.configure(run.device, run.seed)
        import keras

        from objectives.augment import Progress
        from objectives.training import batches

        data, seconds = self._data, float(os.environ["BENCH_SECONDS"])
        model = self.build(params, data)
        model.compile(
            keras.optimizers.Adam(params["learning_rate"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        advance = batches.hosted(model, data, batches.Variation())
        rng = np.random.default_rng(run.seed)
        for _ in run.epochs():
            done, began_at, now = -STEPS * BATCH_SIZE, time.perf_counter(), 0.0
            while done < 0 or now - began_at < seconds:
                advance(rng.integers(0, len(data.y_train), (STEPS, BATCH_SIZE)), [], Progress())
                done, now = done + STEPS * BATCH_SIZE, time.perf_counter()
                # Compiling is not part of the speed.
                began_at = now if done == 0 else began_at
                run.tick(int(now - began_at), int(seconds), max(done, 0))
            with Path(os.environ["BENCH_RATES"]).open("a") as rates:
                rates.write(f"{done / (now - began_at)}\n")
            run.report(val_accuracy=0.5)
