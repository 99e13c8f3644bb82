"""The files of a retrained configuration: what each seed showed, their mean and its interval."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo import numbers
from hpo.export import Config, render
from hpo.messages import EpochRecord


@dataclass(frozen=True)
class SeedResult:
    """One final run."""

    seed: int
    history: tuple[EpochRecord, ...]
    recorded: Mapping[str, Any]
    """What the objective recorded: test accuracy, confusion matrix and so on."""
    seconds: float


@dataclass(frozen=True)
class Interval:
    """A figure over seeds."""

    mean: float
    standard_deviation: float | None
    """With n - 1; None for one seed."""
    interval95: tuple[float, float] | None
    """Student's t interval of the mean; None for one seed."""
    n: int


def summarize(values: Sequence[float]) -> Interval:
    """Mean, standard deviation and 95 % interval (Student's t, n - 1 degrees of freedom)."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Interval(mean, None, None, n)
    from scipy.stats import t

    deviation = statistics.stdev(values)
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean, deviation, (mean - half, mean + half), n)


def summaries(results: Sequence[SeedResult]) -> dict[str, Interval]:
    """An interval for each measured number that every seed recorded, and for the last epoch's metrics.

    Whole numbers, such as how many images there were, are facts and no measurements: they have none.
    """
    rows = [_numbers_of(result) for result in results]
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: summarize([row[name] for row in rows]) for name in shared}


def _numbers_of(result: SeedResult) -> dict[str, float]:
    last = result.history[-1].metrics if result.history else {}
    recorded = {name: value for name, value in result.recorded.items() if isinstance(value, float)}
    return {**recorded, **{f"final_{name}": value for name, value in last.items()}}


def write_results(
    folder: Path,
    config: Config,
    results: Sequence[SeedResult],
    about: Mapping[str, Any],
    model: Path | None,
) -> dict[str, Any]:
    """Write the result files of a retrain into `folder`; returns what metrics.json holds.

    `model` is moved there; its confusion matrix is the one in confusion_matrix.csv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {
        "study": config.study,
        "objective": config.objective,
        "params": dict(config.params),
        "epochs": config.epochs,
        "summary": {name: _interval_json(interval) for name, interval in summaries(results).items()},
        "runs": [
            {"seed": result.seed, "seconds": round(result.seconds, 2), **result.recorded}
            for result in results
        ],
        **about,
    }
    safe: dict[str, Any] = numbers.json_safe(metrics)
    _replace(folder / "metrics.json", json.dumps(safe, indent=2) + "\n")
    _replace(folder / "best_config.yaml", render(config, "yaml"))
    _write_history(folder / "history.csv", results)
    confusion, classes = results[0].recorded.get("confusion"), results[0].recorded.get("classes")
    if confusion:
        _write_confusion(folder / "confusion_matrix.csv", confusion, classes or range(len(confusion)))
    if model is not None and model.is_file():
        shutil.move(model, folder / model.name)
    return safe


def _interval_json(interval: Interval) -> dict[str, Any]:
    return {
        "mean": interval.mean,
        "standard_deviation": interval.standard_deviation,
        "interval95": list(interval.interval95) if interval.interval95 else None,
        "n": interval.n,
    }


def _write_history(path: Path, results: Sequence[SeedResult]) -> None:
    names = list(dict.fromkeys(name for r in results for record in r.history for name in record.metrics))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "epoch", "seconds", *names])
        for result in results:
            for record in result.history:
                row = [record.metrics.get(name, "") for name in names]
                writer.writerow([result.seed, record.epoch, round(record.seconds, 3), *row])
    partial.replace(path)


def _write_confusion(path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[Any]) -> None:
    """Rows are the true classes, columns the predicted ones."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *classes])
        for name, row in zip(classes, confusion, strict=True):
            writer.writerow([name, *row])
    partial.replace(path)


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(content)
    partial.replace(path)
