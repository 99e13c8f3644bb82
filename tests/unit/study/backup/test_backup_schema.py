"""Rows of a backup that reports take apart have the parts that they expect."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.study.backup.schema import RowInvalidError, check_row, table_named
from hpo.study.backup.spec import is_spec
from tests.specs import spec

RUNS = {"runs": [{"seed": 1}]}
ROW = {"retrain_id": 1, "study_id": 1, "config": {}, "seeds": [1], "metrics": None}


def metrics(**statistic: Any) -> dict[str, Any]:
    return {"metrics": RUNS | {"summary": {"test_accuracy": statistic}}}


@pytest.mark.parametrize(
    "values", [{}, metrics(mean=0.5), metrics(mean="NaN", interval95=[0.25, 1], standard_deviation=None)]
)
def test_results_of_a_retrain_are_accepted(values: dict[str, Any]) -> None:
    check_row(table_named("hpo.retrains"), ROW | values)


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"device": 5}},
        {"config": {"versions": ["a"]}},
        {"metrics": RUNS},
        metrics(),
        metrics(mean="high"),
        metrics(mean=0.5, interval95=0.5),
        metrics(mean=0.5, interval95=[0.5]),
        metrics(mean=0.5, standard_deviation={}),
    ],
)
def test_damaged_results_of_a_retrain_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RowInvalidError, match=r"hpo\.retrains has no valid"):
        check_row(table_named("hpo.retrains"), ROW | values)


@pytest.mark.parametrize(
    "changes",
    [
        {"constraints": ["parameters"]},
        {"constraints": [5]},
        {"also_minimize": 5},
        {"also_minimize": ""},
        {"repeats": 0},
        {"repeats": "3"},
        {"stop_when_flat": "yes"},
        {"estimate": {"slots": "many"}},
        {"learned": [{"study": "s", "trials": 1, "configurations": []}]},
    ],
)
def test_damaged_options_of_a_search_are_refused(changes: dict[str, Any]) -> None:
    options = {"repeats": 3, "stop_when_flat": True, "estimate": {"slots": 2, "epochs": None}}
    stored = spec(constraints=("parameters<=5",), also_minimize="latency_ms", **options).to_json()
    assert is_spec(stored)
    assert not is_spec(stored | changes)
