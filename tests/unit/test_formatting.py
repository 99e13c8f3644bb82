"""Numbers as they are shown and as they are stored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from hpo import formatting

SHOWN = {
    formatting.metric: {
        None: "-",
        0.98765: "0.9877",
        0.0: "0.0000",
        1.0: "1.0000",
        0.000123456: "0.0001235",
        12321.7: "12322",
        -math.inf: "-inf",
        math.nan: "nan",
    },
    formatting.quantity: {0.0123456: "0.01235", 9999.4: "9999", 420_600.4: "420,600", -1e13: "-1e+13"},
    formatting.joined: {("a",): "a", ("a", "b"): "a and b", ("a", "b", "c"): "a, b and c", (): ""},
    formatting.duration: {
        None: "-",
        math.inf: "-",
        8.24: "8.2s",
        59.97: "1m00s",
        185: "3m05s",
        7620: "2h07m",
        273600: "3d04h",
    },
    formatting.size: {5: "5 B", 2048: "2.0 KiB", 3.2 * 1024**3: "3.2 GiB", 2 * 1024**4: "2.0 TiB"},
    formatting.times: {0: "never", 1: "once", 2: "2 times"},
    formatting.ranges: {(): "", (3,): "3", (5, 2, 1, 0): "0-2, 5", (1, 2): "1-2"},
    formatting.p_value: {None: "-", 0.0004: "< 0.001", 0.0314: "0.031", 1.0: "1.000"},
}


@pytest.mark.parametrize("function", SHOWN)
def test_number_is_shown(function: Callable[[float | None], str]) -> None:
    for value, shown in SHOWN[function].items():
        assert function(value) == shown


def test_count_has_a_noun() -> None:
    counts = [formatting.counted(number, "core") for number in (0, 1, 2, None)]
    assert counts == ["0 cores", "1 core", "2 cores", "? cores"]


def test_parameters() -> None:
    values = {"learning_rate": 0.00123456, "batch_size": 128, "optimizer": "sgd"}
    assert formatting.parameters(values) == "learning_rate=0.00123 batch_size=128 optimizer=sgd"
    assert formatting.parameters(None) == ""
    assert formatting.parameters({"text": "a\nb", "list": ["a\nb"]}) == "text='a\\nb' list=['a\\nb']"


def test_string_that_reads_as_another_value_is_quoted() -> None:
    values = [
        "adam",
        "a,b",
        "same padding",
        "1",
        "1e-3",
        "True",
        "null",
        "[3, 3]",
        "(3, 3)",
        '"a"',
        "",
        " a",
        "-",
    ]
    assert [formatting.parameter(value) for value in values] == [
        "adam", "a,b", "same padding", '"1"', '"1e-3"', '"True"', '"null"', '"[3, 3]"', '"(3, 3)"', r'"\"a\""',
        '""', '" a"', '"-"',
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["loss", "f1"], ["loss", "f1"]),
        (["seconds", "loss"], ["metric_seconds", "loss"]),
        (["seconds", "metric_seconds"], ["metric_metric_seconds", "metric_seconds"]),
        (["metric_seconds", "seconds"], ["metric_seconds", "metric_metric_seconds"]),
        (["seed", "seed"], ["metric_seed"]),
        (["a", " a", "b"], ["metric_a", "metric_ a", "b"]),
        (["a\0", "a?"], ["metric_a\0", "metric_a?"]),
        (["=a", "'=a"], ["metric_=a", "'=a"]),
        (["-1", "-a"], ["-1", "metric_-a"]),
    ],
)
def test_name_of_another_column_gets_a_prefix(names: list[str], columns: list[str]) -> None:
    assert list(formatting.apart(names, ("seed", "seconds"), "metric_").values()) == columns
