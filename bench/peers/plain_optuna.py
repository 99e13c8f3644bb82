"""One process of plain Optuna: `study.optimize` around `model.fit`, TPE and MedianPruner, on a PostgreSQL."""

from __future__ import annotations

import os
from typing import Any

import keras
import optuna

from bench.idle import choices
from bench.jobs import mnist_job
from bench.peers import fitting, job


class Pruning(keras.callbacks.Callback):
    """A callback that does the same as optuna-integration's KerasPruningCallback."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self._trial = trial

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._trial.report(logs["val_accuracy"], epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def main() -> None:
    options = job.options()
    data, augmentation = job.load(options.objective)
    study = optuna.load_study(
        study_name="bench",
        storage=os.environ["BENCH_STORAGE"],
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(),
    )

    def objective(trial: optuna.Trial) -> float:
        space = mnist_job.MnistPart.space
        params = {
            "batch_size": trial.suggest_categorical("batch_size", choices(space["batch_size"])),
            "optimizer": trial.suggest_categorical("optimizer", choices(space["optimizer"])),
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        }
        log = fitting.EpochLog(options.folder, trial.number)
        return fitting.fit(params, data, augmentation, options.epochs, [log, Pruning(trial)])

    study.optimize(objective, n_trials=options.trials)


if __name__ == "__main__":
    main()
