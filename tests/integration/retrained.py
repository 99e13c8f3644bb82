"""Rows of retrains, inserted by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.statistics import summarize
from storage import retrains
from tests.integration.rows import StudyRows

CONFUSION = [[8, 2], [1, 9]]


def add_retrain(
    rows: StudyRows,
    accuracies: Sequence[float],
    *,
    params: dict[str, Any] | None = None,
    classes: Sequence[str] = ("cat", "dog"),
    config: Mapping[str, Any] | None = None,
    finished: bool = True,
    **more: Any,
) -> int:
    """Insert a retrain with one final run for each accuracy; `config` overrides the default one."""
    seeds = [1_000_000 + index for index in range(len(accuracies))]
    default = {
        "objective": "digits-cnn",
        "trial": 0,
        "epochs": 2,
        "params": params or {"learning_rate": 0.01},
    }
    trained = {**default, **(config or {})}
    runs = [
        {
            "seed": seed,
            "seconds": 2.0,
            "test_accuracy": accuracy,
            "confusion": CONFUSION,
            "classes": list(classes),
            "n_test": 20,
            "n_train": 100,
            "parameters": 1234,
        }
        for seed, accuracy in zip(seeds, accuracies, strict=True)
    ]
    history = [
        {"seed": seed, "epoch": epoch, "seconds": 1.0, "metrics": {"loss": math.inf, "accuracy": epoch / 2}}
        for seed in seeds
        for epoch in (1, 2)
    ]
    metrics = {
        "study": rows.name,
        "epochs": 2,
        "summary": {"test_accuracy": summarize(accuracies).to_json()},
        "runs": runs,
        "hardware": {"processor": "a processor", "cores": 2, "memory_gib": 4.0, "gpus": []},
        "versions": {"keras": "3.15"},
        "detail": {"history": history},
        **more,
    }

    def write(connection: Any) -> int:
        retrain_id = retrains.begin(connection, retrains.new_id(connection), rows.study_id, trained, seeds)
        retrains.open_test_set(connection, retrain_id)
        if finished:
            retrains.finish(connection, retrain_id, formatting.json_safe(metrics))
        return retrain_id

    return rows.database.transaction(write)
