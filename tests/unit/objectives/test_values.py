"""Values that objectives report and record: kept as given, or refused by name."""

from __future__ import annotations

import datetime
import enum
import fractions
import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives import values
from objectives.local_run import LocalRun
from objectives.values import ValueRefusedError
from tests.odd_values import ODD, OTHER_INT, UNLIKE_ANY_TEXT, nested


class Tensor:
    """An array of another library, such as a Keras variable."""

    def __init__(self, value: Any) -> None:
        self._array = np.asarray(value)
        self.dtype = self._array.dtype
        self.shape = self._array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


class Broken:
    """Nothing about it can be shown or converted."""

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    GOOD = "good"


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
    assert values.records({name: 1}) == {name: 1}


@pytest.mark.parametrize("name", ["", "a\0b", "a\ud800", "a\nb", "\x1b[31m", "a" * 201])
def test_other_name_is_refused(name: str) -> None:
    for keep in (values.metrics, values.records):
        with pytest.raises(ValueRefusedError, match=r"^the name of a .*: use 1 to 200 printable characters$"):
            keep({name: 1})


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        (np.bool_(True), True),
        (3, 3),
        (2**70, 2**70),
        (np.int64(3), 3),
        (Level.HIGH, 3),
        (0.1, 0.1),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (Decimal("0.5"), 0.5),
        ("text", "text"),
        (Kind.GOOD, "good"),
        (np.str_("text"), "text"),
        ("NUL \0, a byte \udcff, ü", "NUL \\x00, a byte \\udcff, ü"),
        (np.array(["a\0b"]), ["a\\x00b"]),
        ((1, (2, 3)), [1, [2, 3]]),
        (range(3), [0, 1, 2]),
        (OrderedDict(a=np.array([1, 2])), {"a": [1, 2]}),
        ([np.array([1.5]), Tensor([[1]])], [[1.5], [[1]]]),
        (np.array([], dtype=int), []),
        (np.array([np.longdouble(1.5)]), [1.5]),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    ],
)
def test_record_becomes_a_plain_value(value: object, kept: object) -> None:
    run = LocalRun(1)
    run.record(name=value)
    assert repr(run.results) == repr({"name": kept})


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        1j,
        10**400,
        lambda: 1,
        object(),
        Broken(),
        Path("x"),
        datetime.date(2020, 1, 1),
        np.array([1j]),
        np.array([object()]),
        np.zeros(2, dtype=[("a", int)]),
        np.datetime64("2020"),
        {1: 2},
        {"a\0": 2},
        {"a": {"b": {1, 2}}},
        nested(30),
        CYCLE,
        np.zeros(3_000_000, np.uint8),
        "a" * 17_000_000,
        iter([1]),
    ],
)
def test_other_record_is_refused_by_its_name(value: object) -> None:
    run = LocalRun(1)
    with pytest.raises(ValueRefusedError, match=r"record 'odd'.*: (use|write|scale) "):
        run.record(test_accuracy=0.5, odd=value)
    assert run.results == {}


@pytest.mark.parametrize("make", ODD)
def test_odd_value_becomes_plain_or_is_refused_by_name(make: Callable[[], object]) -> None:
    wraps: list[Callable[[Any], Any]] = [
        lambda value: value,
        lambda value: [value],
        lambda value: {"key": value},
    ]
    for keep in (values.metrics, values.records):
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
    for keep in (values.metrics, values.records):
        kept, refusal = kept_or_refused(keep, {name: 1.0})
        assert refusal or [type(name) for name in kept] == [str]


def test_subclasses_of_numbers_keep_the_number_that_they_are() -> None:
    assert values.records({"a": OTHER_INT(3)}) == {"a": 3}
    assert values.metrics({"a": OTHER_INT(3)}) == {"a": 3.0}


def test_names_that_are_equal_as_plain_text_are_refused() -> None:
    for keep in (values.metrics, values.records):
        with pytest.raises(ValueRefusedError, match="is given twice, 'a': use each once"):
            keep({"a": 1.0, UNLIKE_ANY_TEXT("a"): 2.0})


def test_record_that_refers_to_one_list_again_and_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MOST_VALUES", 10_000)
    value: list[Any] = [1]
    for _ in range(19):
        value = [value] * 10
    with pytest.raises(ValueRefusedError, match="too many values"):
        values.records({"odd": value})


def test_records_are_bounded_together() -> None:
    run = LocalRun(1)
    run.record(first="a" * 9_000_000)
    with pytest.raises(ValueRefusedError, match=r"^the record '(first|second)' is too large \(8\.6 MiB"):
        run.record(second="a" * 9_000_000)
    assert list(run.results) == ["first"]
