"""Records that tables and charts are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hpo.analysis.records import drawable

BIN = {"images": 3, "confidence": 0.5, "accuracy": None}
GOOD: dict[str, Any] = {
    "confusion": [[3, 1], [0, 4.0]],
    "classes": ["a", "b"],
    "calibration": {"expected_error": 0.1, "bins": [BIN]},
    "wrong": [{"index": 5, "true": 1, "predicted": 0, "confidence": 0.9}],
    "n_test": 8,
    "n_train": 16,
    "parameters": 100,
    "seconds": 1.5,
    "test_accuracy": 0.9,
}


def test_records_of_their_form_are_drawn() -> None:
    assert drawable([GOOD, GOOD]) == [GOOD, GOOD]
    assert drawable([{"test_accuracy": 0.5, "seconds": 1.0}]) == [{"test_accuracy": 0.5, "seconds": 1.0}]
    assert drawable([]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confusion", 5),
        ("confusion", "text"),
        ("confusion", {"a": 1}),
        ("confusion", [[1, 2], [3]]),
        ("confusion", [[1, 2]]),
        ("confusion", [1, 2]),
        ("confusion", [[1, -2], [3, 4]]),
        ("confusion", [["a", 2], [3, 4]]),
        ("confusion", [[1, True], [3, 4]]),
        ("confusion", [[math.nan, 1], [3, 4]]),
        ("classes", 2),
        ("classes", "ab"),
        ("classes", ["a", "b", "c"]),
        ("calibration", 0.03),
        ("calibration", {"bins": 3}),
        ("calibration", {"expected_error": "nan", "bins": [BIN]}),
        ("calibration", {"expected_error": 0.1, "bins": [{"images": 3}]}),
        ("calibration", [0.1]),
        ("wrong", 3),
        ("wrong", {"a": 1}),
        ("wrong", [1]),
        ("wrong", [{"index": 5, "true": 2, "predicted": 0, "confidence": 0.9}]),
        ("wrong", [{"index": 5, "true": 1.5, "predicted": 0, "confidence": 0.9}]),
        ("n_test", "many"),
        ("n_test", -1),
        ("n_train", math.inf),
        ("parameters", {"a": 1}),
        ("parameters", True),
    ],
)
def test_record_of_another_form_is_not_drawn(name: str, value: object) -> None:
    found = drawable([GOOD, {**GOOD, name: value}])
    assert name not in found[1]
    assert {key for key in GOOD if key not in found[1]} <= {name, "wrong"}


def test_records_of_runs_that_differ_are_not_drawn() -> None:
    other = {**GOOD, "confusion": [[1]], "classes": ["a"], "wrong": []}
    assert [run.get("confusion") for run in drawable([GOOD, other])] == [None, None]


def test_time_that_a_record_replaced_is_unknown() -> None:
    assert drawable([{"seconds": "slow"}])[0]["seconds"] is None
