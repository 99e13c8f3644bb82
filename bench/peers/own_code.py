"""Optuna objectives as users write them, for the service and for plain `study.optimize` alike.

python -m bench.peers.own_code STUDY FUNCTION TRIALS runs one process of plain Optuna.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import optuna

EPOCHS = 10
IMAGES, CLASSES = 1000, 10


def learned(trial: optuna.Trial) -> float:
    """Train a toy model of Keras, which the function itself imports."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.random((IMAGES, 20)), rng.integers(0, CLASSES, IMAGES)
    layers = [keras.layers.Dense(trial.suggest_int("units", 8, 64), activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return float(model.fit(x, y, epochs=3, verbose=0).history["loss"][-1])


def steps(trial: optuna.Trial) -> float:
    """Compute for half a second, and report ten times."""
    target, value = trial.suggest_float("target", 0.0, 1.0), 0.0
    for step in range(EPOCHS):
        until = time.process_time() + 0.5 / EPOCHS
        while time.process_time() < until:
            value = float(np.square(np.arange(10_000.0) - target).mean())
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value


def asks(trial: optuna.Trial) -> float:
    """Write the milliseconds of each suggestion to a file of BENCH_FOLDER."""
    found, total = [], 0.0
    for index in range(EPOCHS):
        began_at = time.perf_counter()
        total += trial.suggest_float(f"x{index}", 0.0, 1.0)
        found.append(1000 * (time.perf_counter() - began_at))
    path = Path(os.environ["BENCH_FOLDER"]) / f"asks-{os.getpid()}-{trial.number}"
    path.write_text(" ".join(map(str, found)))
    return total


def main() -> None:
    study_name, function, trials = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=study_name,
        storage=os.environ["BENCH_STORAGE"],
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )
    study.optimize(globals()[function], n_trials=int(trials))


if __name__ == "__main__":
    main()
