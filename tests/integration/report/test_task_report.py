"""The report of each task, in its own terms and without those of others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpo.analysis.figures import METRICS as KNOWN
from hpo.analysis.records import drawable
from hpo.document.parts import LEFT_OUT
from hpo.formatting import json_safe
from hpo.report.findings import Findings
from hpo.report.study_report import build_report
from hpo.report.task_sections import task_sections
from hpo.study.history import read_history
from objectives.data_options import TaskName
from objectives.tasks.intervals import intervals
from objectives.tasks.metrics import METRICS, names_of
from objectives.tasks.table import TASKS
from storage.engine import Database
from tests.integration.report.made import files, report_text
from tests.integration.report.task_rows import (
    CURVE,
    REGRESSED,
    REGRESSION,
    complete,
    document_text,
    retrained,
    study,
)

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def test_report_of_a_regression_has_residuals_and_no_classes(database: Database) -> None:
    rows = study(database, "val_rmse", "minimize")
    complete(rows, {"val_rmse": 2.4, "val_loss": 5.8, "loss": 5.0, "rmse": 2.2, "val_r2": 0.8}, "val_rmse")
    history = [
        {
            "seed": seed,
            "epoch": 1,
            "seconds": 1.0,
            "metrics": {"loss": 6.0, "rmse": 2.5, "images_per_second": 9.0},
        }
        for seed in (0, 1)
    ]
    retrained(rows, REGRESSED, REGRESSION, detail={"history": history})
    found = files(rows)
    text = report_text(found)
    assert "**Test RMSE 2.5500 ± 3.4648 (95 % interval 0.0000 to 33.6" in text
    assert "2.0000 to 3.0000 over 200 test examples): trial 0" in text
    assert "On 1,359 validation examples, its RMSE was 2.4000" in text
    assert "| test R² | 0.8950 | 0.1344 | -0.3121 to 1.0000 | 0.7000 to 0.9000 |" in text
    assert (
        text.index("| test RMSE")
        < text.index("| test MAE")
        < text.index("| test R²")
        < text.index("| test loss")
    )
    assert {"pictures/residuals.png", "pictures/best-trial.png", "pictures/training.png"} <= found.keys()
    assert not [
        word for word in ("class", "accuracy", "image") if word in text.lower().replace("images_per", "")
    ]


def test_report_of_labels_has_a_table_of_labels_and_curves(database: Database) -> None:
    rows = study(database, "val_macro_f1")
    complete(rows, {"val_macro_f1": 0.8}, "val_macro_f1")
    scores = {"precision": 0.5, "recall": 0.25, "f1": None, "auc": 0.75, "average_precision": 0.6}
    records = {
        "task": "labels",
        "classes": ["sun", "sea"],
        "curves": {kind: {"sun": CURVE, "sea": CURVE} for kind in ("roc", "precision_recall")},
        "per_label": [{"label": name, "positives": 7, **scores} for name in ("sun", "sea")],
    }
    retrained(rows, {"test_macro_f1": [0.7, 0.8], "test_auc": [0.9, 1.0]}, records)
    found = files(rows)
    text = report_text(found)
    assert "**Test macro F1 0.7500" in text
    assert "| sun | 7 | 0.5000 | 0.2500 | - | 0.7500 | 0.6000 |" in text
    assert "its macro F1 was 0.8000" in text
    assert "pictures/curves.png" in found


def test_curves_of_a_binary_task_are_those_of_each_seed(database: Database) -> None:
    rows = study(database, "val_auc")
    complete(rows, {"val_auc": 0.8}, "val_auc")
    records = {"task": "binary", "curves": {kind: {"yes": CURVE} for kind in ("roc", "precision_recall")}}
    retrained(rows, {"test_auc": [0.9, 0.91], "test_accuracy": [0.8, 0.8]}, records)
    history = read_history(database, "demo")
    document = build_report(history, Findings(history))
    [figure] = [figure for figure in document.figures() if figure.key == "curves"]
    assert [series.name for series in figure.panels[0].series] == ["chance", "seed 0", "seed 1"]
    assert "**Test AUC 0.9050" in document_text(rows)


@pytest.mark.parametrize("task", ["classes", "labels", "binary", "regression"])
def test_records_of_each_task_have_the_form_that_reports_draw(task: TaskName) -> None:
    rng = np.random.default_rng(0)
    data: Any = SimpleNamespace(classes=["a", "b", "c"], output_size=3, scaling=None)
    targets, outputs = rng.random((50, 3)).astype(np.float32), rng.random((50, 3))
    if task == "classes":
        targets, outputs = rng.integers(0, 3, 50), outputs / outputs.sum(axis=1, keepdims=True)
    elif task == "labels":
        targets = (targets > 0.5).astype(np.uint8)
    elif task == "binary":
        data.classes, targets, outputs = ["no", "yes"], rng.integers(0, 2, 50), outputs[:, 0]
    records = TASKS[task](data).records(targets, outputs)
    rows = {name: (METRICS[name].rows(targets, outputs), METRICS[name].value) for name in names_of(task)}
    pairs = {f"test_{name}": list(pair) for name, pair in intervals(rows, resamples=9).items()}
    run = json_safe({"seed": 1, "seconds": 1.0, "task": task, "test_intervals": pairs, **records})
    assert drawable([run, run]) == [run, run]
    sections = task_sections(lambda: {"runs": [run, run]})
    shown = {
        "classes": ["ROC and precision-recall"],
        "labels": ["Labels", "ROC and precision-recall"],
        "binary": ["ROC and precision-recall"],
        "regression": ["Residuals"],
    }
    assert [section.title for section in sections] == shown[task]
    assert LEFT_OUT not in str(sections)
    # Both tables of metrics agree.
    assert all(KNOWN[name].maximize is METRICS[name].maximize for name in names_of(task))


@pytest.mark.parametrize(
    "odd",
    [
        {"curves": {"roc": {"a": {"x": [0.0], "y": []}}, "precision_recall": {}}, "task": 5},
        {"residuals": {"a": {"true": ["x"], "predicted": [1.0]}}, "per_label": [{"label": "a"}]},
        {"test_intervals": {"test_accuracy": 0.5}, "input": 7, "n_valid": "many"},
        {"residuals": {}, "curves": [], "per_label": {}, "test_intervals": [1, 2]},
    ],
)
def test_records_of_another_form_are_left_out(database: Database, odd: dict[str, Any]) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.9}, "val_accuracy")
    retrained(rows, {"test_accuracy": [0.9, 0.8]}, odd)
    text = document_text(rows)
    assert "**Test accuracy 0.8500" in text
    assert not [title for title in ("## ROC", "## Residuals", "## Labels", "left out") if title in text]
