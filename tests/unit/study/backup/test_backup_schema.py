"""Rows of a backup that reports take apart have the parts that they expect."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.study.backup.schema import RowInvalidError, check_row, table_named

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
