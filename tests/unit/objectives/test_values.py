"""Values that objectives report and record: kept as given, or refused by name."""

from __future__ import annotations

import datetime
import fractions
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from objectives import values
from objectives.local_run import LocalRun
from objectives.runs.records import plain_records
from objectives.values import ValueRefusedError
from tests.given_values import Broken, Level, Tensor
from tests.odd_values import ODD, OTHER_INT, UNLIKE_ANY_TEXT, nested


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1.0),
        (True, 1.0),
        (Level.HIGH, 3.0),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (math.inf, math.inf),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(0.5), 0.5),
        (Tensor(0.5), 0.5),
        ([0.5], 0.5),
        ((0.5,), 0.5),
        ([[np.float32(0.5)]], 0.5),
        (np.array([0.5]), 0.5),
        (np.array([[3]]), 3.0),
        (np.array([0.5], dtype=object), 0.5),
        (Tensor([0.5]), 0.5),
        (Decimal("0.5"), 0.5),
        (fractions.Fraction(1, 2), 0.5),
        ("0.5", 0.5),
        (np.str_(" 1e-3 "), 1e-3),
        ("-inf", -math.inf),
    ],
)
def test_single_real_number_is_a_metric(value: object, kept: float) -> None:
    found = values.metrics({"loss": value})["loss"]
    assert (type(found), found) == (float, kept)


@pytest.mark.parametrize("value", [math.nan, np.float32("nan"), "nan"])
def test_nan_is_a_metric(value: object) -> None:
    assert math.isnan(values.metrics({"loss": value})["loss"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [0.5, 0.5],
        (0.5, None),
        [None],
        ["warm-up"],
        nested(10**4, lambda value: [value]),
        {"a": 1},
        {0.5},
        np.array([]),
        np.array([0.5, 0.5]),
        np.array([[1j]]),
        np.array([5], dtype="timedelta64[ns]"),
        Tensor([0.5, 0.5]),
        Tensor([1j]),
        1j,
        np.complex64(1),
        np.array(1j),
        Tensor(1j),
        "warm-up",
        "",
        b"0.5",
        10**400,
        -(10**400),
        Decimal("1e400"),
        "1e400",
        np.longdouble("1e4000"),
        np.datetime64("2020"),
        np.timedelta64(5),
        datetime.timedelta(1),
        Broken(),
        object(),
        lambda: 0.5,
    ],
)
def test_other_value_is_refused_by_the_name_of_the_metric(value: object) -> None:
    with pytest.raises(ValueRefusedError, match=r"^the metric 'auc' is .*: (give|scale) "):
        values.metrics({"loss": 0.5, "auc": value})
    with pytest.raises(ValueRefusedError, match="'auc'"):
        LocalRun(1, metric="loss").report(loss=0.5, auc=value)


@pytest.mark.parametrize(
    "name", ["number", "epoch", "val/auc %", "f1 ü", "self", "метрика", "می\u200cخواهم", "全\u3000角"]
)
def test_printable_name_is_kept(name: str) -> None:
    assert values.metrics({name: 1}) == {name: 1.0}
    assert plain_records({name: 1}) == {name: 1}


@pytest.mark.parametrize("name", ["", "a\0b", "a\ud800", "a\nb", "\x1b[31m", "a" * 201])
def test_other_name_is_refused(name: str) -> None:
    for keep in (values.metrics, plain_records):
        with pytest.raises(ValueRefusedError, match=r"^the name of a .*: use 1 to 200 printable characters$"):
            keep({name: 1})


@pytest.mark.parametrize("make", ODD)
def test_odd_value_becomes_plain_or_is_refused_by_name(make: Callable[[], object]) -> None:
    wraps: list[Callable[[Any], Any]] = [
        lambda value: value,
        lambda value: [value],
        lambda value: {"key": value},
    ]
    for keep in (values.metrics, plain_records):
        for wrap in wraps:
            kept, refusal = kept_or_refused(keep, {"odd": wrap(make())})
            if kept is None:
                assert re.search(r"'odd'.*: ", refusal)
            else:
                assert json.loads(json.dumps(kept)) == kept or math.isnan(kept["odd"])


def kept_or_refused(keep: Callable[[Any], Any], given: object) -> tuple[Any, str]:
    """Return the value that is kept, or None and the reason why it is refused."""
    try:
        return keep(given), ""
    except ValueRefusedError as exc:
        assert len(str(exc)) < 1000  # noqa: PT017
        return None, str(exc)


@pytest.mark.parametrize("make", ODD)
def test_odd_name_is_kept_as_plain_text_or_refused(make: Callable[[], Any]) -> None:
    name = make()
    try:
        hash(name)
    except Exception:  # noqa: BLE001 - it cannot be a name
        return
    for keep in (values.metrics, plain_records):
        kept, refusal = kept_or_refused(keep, {name: 1.0})
        assert refusal or [type(name) for name in kept] == [str]


def test_subclasses_of_numbers_keep_the_number_that_they_are() -> None:
    assert plain_records({"a": OTHER_INT(3)}) == {"a": 3}
    assert values.metrics({"a": OTHER_INT(3)}) == {"a": 3.0}


def test_names_that_are_equal_as_plain_text_are_refused() -> None:
    for keep in (values.metrics, plain_records):
        with pytest.raises(ValueRefusedError, match="is given twice, 'a': use each once"):
            keep({"a": 1.0, UNLIKE_ANY_TEXT("a"): 2.0})
