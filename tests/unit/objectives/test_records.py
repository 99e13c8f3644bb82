"""Records of an objective: kept as plain values, or refused by name."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives.local_run import LocalRun
from objectives.runs import records
from objectives.runs.records import plain_records
from objectives.values import ValueRefusedError
from tests.given_values import Broken, Kind, Level, Tensor


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


def test_record_that_refers_to_one_list_again_and_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_VALUES", 10_000)
    value: list[Any] = [1]
    for _ in range(19):
        value = [value] * 10
    with pytest.raises(ValueRefusedError, match="too many values"):
        plain_records({"odd": value})


def test_records_are_bounded_together() -> None:
    run = LocalRun(1)
    run.record(first="a" * 9_000_000)
    with pytest.raises(ValueRefusedError, match=r"^the record '(first|second)' is too large \(8\.6 MiB"):
        run.record(second="a" * 9_000_000)
    assert list(run.results) == ["first"]
