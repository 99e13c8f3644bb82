"""One process of plain Optuna with an objective that does not train: the same space, one report, no pruner."""

from __future__ import annotations

import os
import sys

import optuna

from bench.idle import Nothing, choices, value


def objective(trial: optuna.Trial) -> float:
    params = {
        "batch_size": trial.suggest_categorical("batch_size", choices(Nothing.space["batch_size"])),
        "optimizer": trial.suggest_categorical("optimizer", choices(Nothing.space["optimizer"])),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
    }
    trial.report(value(params), 1)
    return value(params)


def main() -> None:
    study_name, trials = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=study_name, storage=os.environ["BENCH_STORAGE"], pruner=optuna.pruners.NopPruner()
    )
    study.optimize(objective, n_trials=int(trials))


if __name__ == "__main__":
    main()
