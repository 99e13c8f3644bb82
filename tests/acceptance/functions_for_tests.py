"""Optuna objectives as users write them, which run unchanged; without TensorFlow, a few milliseconds a step."""

import argparse
import os
import sys
import time

import optuna


def objective(trial: optuna.Trial) -> float:
    """Minimize with parameters that depend on another, reports from step 0 and pruning."""
    kind = trial.suggest_categorical("kind", ["linear", "deep"])
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    loss = abs(lr - 1e-2)
    if kind == "deep":
        for layer in range(trial.suggest_int("n_layers", 1, 2)):
            loss += trial.suggest_int(f"n_units_l{layer}", 8, 32, log=True) / 1000
    trial.set_user_attr("depth", len(trial.params) - 2)
    for step in range(int(os.environ.get("TEST_STEPS", "4"))):
        time.sleep(float(os.environ.get("TEST_EPOCH_SECONDS", "0")))
        trial.report(loss + 1 / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return loss


def returns_only(trial: optuna.Trial) -> float:
    """Return a value without a report, with the defaults of a script's arguments."""
    argparse.ArgumentParser().parse_args()
    return -((trial.suggest_float("x", -10, 10) - 2) ** 2)


def imports(trial: optuna.Trial) -> float:
    """Import a package, and note whether this process had it already."""
    trial.set_user_attr("had", "certifi" in sys.modules)
    import certifi

    return trial.suggest_float("x", 0, len(certifi.where()))


def several(trial: optuna.Trial) -> tuple[float, float]:
    """Return two values, which a study here cannot have."""
    return trial.suggest_float("x", 0, 1), 1.0


if __name__ == "__main__":
    raise SystemExit("an import must not run this")
