"""The files of a retrained configuration: what each seed showed, their mean and its interval."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo import numbers
from hpo.errors import DiskFullError, ResultsNotWritableError
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


def summaries(results: Sequence[SeedResult], metric: str | None = None) -> dict[str, Interval]:
    """An interval for each `test_` number that every seed recorded, and for the last epoch's metrics.

    Of these only losses, accuracies and the study's own `metric`: how fast the images went by, or
    how many there were, is a fact and no measurement of the configuration.
    """
    rows = [_numbers_of(result, metric) for result in results]
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: _bounded(name, summarize([row[name] for row in rows])) for name in shared}


def _numbers_of(result: SeedResult, metric: str | None) -> dict[str, float]:
    last = result.history[-1].metrics if result.history else {}
    tested = {
        name: value
        for name, value in result.recorded.items()
        if name.startswith("test_") and isinstance(value, float)
    }
    final = {
        f"final_{name}": value
        for name, value in last.items()
        if name == metric or "loss" in name or "accuracy" in name
    }
    return {**tested, **final}


def _bounded(name: str, interval: Interval) -> Interval:
    """An accuracy is a share: its interval ends at 0 and 1."""
    is_share = "accuracy" in name and 0.0 <= interval.mean <= 1.0
    if not is_share or interval.interval95 is None:
        return interval
    low, high = interval.interval95
    return replace(interval, interval95=(max(0.0, low), min(1.0, high)))


def check_folder(folder: Path) -> None:
    """Find out before the training whether results can be written to `folder`; leaves no file there.

    Raises:
        ResultsNotWritableError: the folder cannot be created, or nothing be written in it.
        DiskFullError: there is no space.
    """
    with _writing(folder):
        was_there = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".probe-", dir=folder) as probe:
            probe.write(b"x")
        if not was_there:
            folder.rmdir()


@contextmanager
def _writing(folder: Path, afterwards: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or " ".join(str(exc).split())
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no space left for results in {folder}: free some{afterwards}") from exc
        raise ResultsNotWritableError(
            f"results cannot be written to {folder} ({reason}):"
            f" choose another folder with HPO_RESULTS_DIR{afterwards}"
        ) from exc


def write_results(
    folder: Path,
    config: Config,
    results: Sequence[SeedResult],
    about: Mapping[str, Any],
    model: Path | None,
) -> dict[str, Any]:
    """Write the result files of a retrain into `folder`; returns what metrics.json holds.

    `model` is moved there; its confusion matrix is the one in confusion_matrix.csv.

    Raises:
        ResultsNotWritableError: a file cannot be written; checkpoints and model stay where they are.
        DiskFullError: there is no space; the same holds.
    """
    metrics: dict[str, Any] = {
        "study": config.study,
        "objective": config.objective,
        "params": dict(config.params),
        "epochs": config.epochs,
        "summary": {
            name: _interval_json(interval) for name, interval in summaries(results, config.metric).items()
        },
        "runs": [
            {"seed": result.seed, "seconds": round(result.seconds, 2), **result.recorded}
            for result in results
        ],
        **about,
    }
    safe: dict[str, Any] = numbers.json_safe(metrics)
    confusion, classes = results[0].recorded.get("confusion"), results[0].recorded.get("classes")
    with _writing(folder, " and run the same command again: it trains no epoch twice"):
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "metrics.json", json.dumps(safe, indent=2) + "\n")
        _replace(folder / "best_config.yaml", render(config, "yaml"))
        _write_history(folder / "history.csv", results)
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
