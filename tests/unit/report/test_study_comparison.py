"""Setups and figures of retrains, as reports compare and name them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpo.analysis.figures import amount, label_of
from hpo.report import compare_sections
from hpo.report.study_comparison import (
    StudyResult,
    better_high,
    common_figure,
    comparability_warnings,
    matches_search,
)
from storage.retrains import RetrainRow


def result(name: str, *, metric: str = "val_loss", maximize: bool = False, **run: Any) -> StudyResult:
    """Return a study with one final run of these records."""
    metrics = {
        "runs": [{"seed": 0, "seconds": 1.0, "test_loss": 0.5, **run}],
        "detail": {"history": [{"seed": 0, "epoch": 1, "seconds": 1.0, "metrics": {"loss": 1.0}}]},
    }
    trial = SimpleNamespace(number=0, value=0.5)
    history: Any = SimpleNamespace(
        study=SimpleNamespace(name=name, metric=metric, maximize=maximize, value_rule="last"),
        answer=SimpleNamespace(metrics=metrics),
        complete=[trial],
        trials=[],
        best=trial,
    )
    return StudyResult(history)


def retrained(**config: Any) -> RetrainRow:
    row: RetrainRow = object.__new__(RetrainRow)
    object.__setattr__(row, "config", config)
    return row


@pytest.mark.parametrize(
    ("config", "spec", "same"),
    [
        ({"epochs": 5, "data": {"limit": 10}}, {"epochs": 5, "data": {"limit": 10, "data_dir": "/d"}}, True),
        ({"epochs": 6}, {"epochs": 5}, False),
        ({"epochs": None}, {"epochs": 5, "open_space": True}, True),
    ],
)
def test_retrain_matches_search_of_same_epochs_and_images(
    config: dict[str, Any], spec: dict[str, Any], same: bool
) -> None:
    assert matches_search(retrained(**config), spec) is same


def test_figure_of_final_run_has_name_of_its_metric() -> None:
    assert (label_of("final_value"), label_of("test_accuracy")) == ("value", "test accuracy")


@pytest.mark.parametrize("maximize", [True, False])
def test_declared_direction_precedes_that_of_the_name_of_a_metric(maximize: bool) -> None:
    studies = [result(name, metric="val_lossless", maximize=maximize) for name in ("a", "b")]
    assert better_high(studies, "test_lossless") is maximize
    assert better_high(studies, "test_accuracy") is True


def test_accuracy_in_percent_is_no_share() -> None:
    assert amount(0.02, "val_accuracy", [0.95, 0.93]) == "2.0 points"
    assert amount(2.0, "val_accuracy", [95.0, 93.0]) == "2.0000"


CONFUSION = {"confusion": [[8, 2], [1, 9]]}


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        (CONFUSION, {"task": "classes", "precision": "float32"}, False),
        ({}, {"task": "regression"}, False),
        (CONFUSION, {"task": "regression"}, True),
        ({"task": "labels"}, {"task": "binary"}, True),
    ],
)
def test_studies_of_versions_without_tasks_are_compared(first: dict, second: dict, differ: bool) -> None:
    studies = [result("a", **first), result("b", **second)]
    assert (common_figure(studies) is None) == differ
    assert bool(comparability_warnings(studies)) == differ
    # Losses of different tasks share no chart.
    charts = [compare_sections._final_curves(studies), compare_sections._best_so_far(studies)]
    assert [chart is None for chart in charts] == [differ, differ]


def test_other_test_examples_of_the_same_number_are_marked() -> None:
    ranges = [{"test": {"target": {"min": 0.0, "mean": mean, "max": 9.0}}} for mean in (4.0, 5.0)]
    same, other = (
        [result(str(index), n_test=9, examples=one) for index, one in enumerate(pair)]
        for pair in ([ranges[0], ranges[0]], ranges)
    )
    assert comparability_warnings(same) == []
    [line] = comparability_warnings(other)
    assert line.startswith("The studies were tested on examples with different targets (0, 1), so")
