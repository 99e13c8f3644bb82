"""Rows of studies of each task, with their retrains, and their reports as text."""

from __future__ import annotations

from typing import Any

from hpo.analysis.figures import bounds_of
from hpo.analysis.statistics import summarize
from hpo.document.markdown import render_markdown
from hpo.report.findings import Findings
from hpo.report.study_report import build_report
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.rows import SPACE, StudyRows, add_retrain
from tests.specs import spec

DEFAULT = {"learning_rate": 0.05}
CURVE = {"x": [0.0, 0.1, 1.0], "y": [0.0, 0.9, 1.0]}


def study(
    database: Database, metric: str, direction: str = "maximize", name: str = "demo", **more: Any
) -> StudyRows:
    options = {"objective": "mine", "metric": metric, "direction": direction, "epochs": 2, **more}
    return StudyRows(database, name, spec=spec(SPACE, **options, first=(DEFAULT,)))


def complete(rows: StudyRows, metrics: dict[str, float], metric: str, **more: Any) -> None:
    reservation_id = rows.trial("complete", metrics[metric], completed=2, **more)
    data = {"data": "digits: 1,078 training and 1,359 validation examples, digest 0"}
    attempt = rows.attempt(reservation_id, rows.agent(ended=1.0, versions=data), ended=50.0, completed=2)
    for epoch in (1, 2):
        rows.epoch(reservation_id, attempt, epoch, metrics)


def retrained(rows: StudyRows, tested: dict[str, list[float]], records: dict[str, Any], **more: Any) -> None:
    """Insert a retrain of trial 0 with these test figures, one value for each seed."""
    seeds = range(len(next(iter(tested.values()))))
    runs = [
        {"seed": seed, "seconds": 1.0, "n_test": 200, "n_train": 900, **records}
        | {name: values[seed] for name, values in tested.items()}
        for seed in seeds
    ]
    summary = {name: summarize(values, bounds_of(name)).to_json() for name, values in tested.items()}
    add_retrain(rows, [0.5] * len(seeds), runs=runs, summary=summary, **{"source": "search", **more})


def document_text(rows: StudyRows) -> str:
    history = read_history(rows.database, rows.name)
    document = build_report(history, Findings(history))
    return render_markdown(document, "pictures").replace("\\", "")


REGRESSION = {
    "task": "regression",
    "input": {"shape": [12], "dtype": "float32"},
    "classes": ["age"],
    "test_intervals": {"test_rmse": [2.0, 3.0], "test_mae": [1.0, 2.0], "test_r2": [0.7, 0.9]},
    "residuals": {"age": {"true": [1.0, 2.0, 3.0], "predicted": [1.5, 2.0, 2.0]}},
}
REGRESSED = {"test_loss": [6.0, 6.2], "test_rmse": [0.1, 5.0], "test_mae": [1.5, 1.6], "test_r2": [0.8, 0.99]}
