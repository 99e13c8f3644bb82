"""Numbers as they are shown and as they are stored."""

from __future__ import annotations

import json
import math

import pytest

from hpo import formatting


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.98765, "0.9877"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (0.000123456, "0.0001235"),
        (12321.7, "12322"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_metric(value: float | None, shown: str) -> None:
    assert formatting.metric(value) == shown


def test_parameters() -> None:
    values = {"learning_rate": 0.00123456, "batch_size": 128, "optimizer": "sgd"}
    assert formatting.parameters(values) == "learning_rate=0.00123 batch_size=128 optimizer=sgd"
    assert formatting.parameters(None) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (math.inf, "-"),
        (8.24, "8.2s"),
        (59.97, "1m00s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (273600, "3d04h"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert formatting.duration(seconds) == shown


def test_size() -> None:
    assert [formatting.size(n) for n in (5, 2048, 3.2 * 1024**3, 2 * 1024**4)] == [
        "5 B",
        "2.0 KiB",
        "3.2 GiB",
        "2.0 TiB",
    ]


def test_json_writes_nan_as_text() -> None:
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], "c": None, "d": ({"e": True},)}
    safe = formatting.json_safe(value)
    assert (
        json.dumps(safe, allow_nan=False)
        == '{"a": "nan", "b": ["inf", "-inf", 1.5], "c": null, "d": [{"e": true}]}'
    )
    assert math.isnan(formatting.json_number(safe["a"]))
    assert formatting.json_number("-inf") == -math.inf
    assert formatting.json_number(None) is None


def test_times() -> None:
    assert [formatting.times(count) for count in (0, 1, 2)] == ["never", "once", "2 times"]


def test_counts_and_p_values() -> None:
    assert [formatting.counted(n, "core") for n in (0, 1, 2, None)] == [
        "0 cores",
        "1 core",
        "2 cores",
        "? cores",
    ]
    assert [formatting.p_value(p) for p in (None, 0.0004, 0.0314, 1.0)] == ["-", "< 0.001", "0.031", "1.000"]


def test_values_are_ordered_by_names() -> None:
    ordered = formatting.in_order({"a": 1, "b": 2, "extra": 3}, ["b", "missing", "a"])
    assert list(ordered.items()) == [("b", 2), ("a", 1), ("extra", 3)]


def test_json_text_has_one_row_of_numbers_per_line() -> None:
    value = {
        "confusion": [[8, 2], [1, 9]],
        "interval95": [0.1, None],
        "name": "a [\n1,\n2\n] b",
        "names": ["x"],
    }
    text = formatting.json_text(value | {"bad": math.nan})
    assert json.loads(text) == value | {"bad": "nan"}
    assert "\n    [8, 2],\n    [1, 9]\n" in text
    assert '"interval95": [0.1, null]' in text
