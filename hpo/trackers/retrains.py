"""A retrain as runs of a tracker: one with its results and artefacts, and a part of it for each seed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.trackers.runs import Confusion, Epoch, Run
from objectives.values import is_number

ARTEFACTS = ("model.keras", "best_config.yaml", "metrics.json", "history.csv", "confusion_matrix.csv")
"""Result files that trackers get."""


def runs_of(
    study: str,
    uid: str,
    retrain_id: int,
    metrics: Mapping[str, Any],
    folder: Path,
    ended_at: float | None = None,
) -> list[Run]:
    """Return the run of a retrain, and those of its seeds."""
    ended_at = time.time() if ended_at is None else ended_at
    name = f"retrain-{retrain_id}"
    key = f"{uid}-{name}"
    shared = {"group": study, "params": metrics["params"], "ended_at": ended_at, "outcome": "complete"}
    about = {"objective": metrics["objective"]}
    seeds = [
        Run(
            key=f"{key}-seed-{run['seed']}",
            name=f"{name}-seed-{run['seed']}",
            about={**about, "seed": run["seed"]},
            epochs=_epochs(metrics, run["seed"], ended_at),
            results=_numbers(run),
            began_at=ended_at - (run.get("seconds") or 0.0),
            parent=key,
            **shared,
        )
        for run in metrics["runs"]
    ]
    whole = Run(
        key=key,
        name=name,
        about={**about, "seeds": len(seeds)},
        results={name: float(interval["mean"]) for name, interval in metrics["summary"].items()},
        began_at=ended_at - (metrics.get("wall_seconds") or 0.0),
        files=[str(folder / file) for file in ARTEFACTS if (folder / file).is_file()],
        confusion=_confusion(metrics),
        **shared,
    )
    return [whole, *seeds]


def _epochs(metrics: Mapping[str, Any], seed: int, ended_at: float) -> list[Epoch]:
    rows = [row for row in metrics["detail"]["history"] if row["seed"] == seed]
    left, found = sum(row["seconds"] for row in rows), []
    for row in rows:
        left -= row["seconds"]
        values = {name: float(value) for name, value in row["metrics"].items()}
        found.append(Epoch(epoch=row["epoch"], attempt=1, metrics=values, at=ended_at - left))
    return found


def _numbers(run: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that the objective recorded at the end."""
    return {
        name: float(value)
        for name, value in run.items()
        if name not in ("seed", "seconds") and is_number(value)
    }


def _confusion(metrics: Mapping[str, Any]) -> Confusion | None:
    """Return the confusion matrix of the first run, whose model is kept."""
    scores = metrics.get("per_class")
    if not scores:
        return None
    return Confusion(counts=metrics["runs"][0]["confusion"], classes=[str(score["name"]) for score in scores])
