"""Constraints on figures of a configuration, as they are written and as they judge values."""

from __future__ import annotations

import math

import pytest

from hpo.errors import UsageError
from objectives.runs.figures import first_problem, parse, plain


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("parameters<=500000", "parameters<=500000"),
        (" val_accuracy >= 0.9 ", "val_accuracy>=0.9"),
        ("latency_ms<=2.5e0", "latency_ms<=2.5"),
        ("parameters<=1_000_000", "parameters<=1000000"),
        ("my metric>=-1e-9", "my metric>=-1e-09"),
    ],
)
def test_constraint_is_read_from_its_own_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(
    "text",
    ["parameters", "", "parameters<5", "parameters=5", "<=5", "a<=b", "a<=nan", "a<=inf", "a<=1<=2", "a>=5k"],
)
def test_text_that_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a bound of a figure: write NAME<=NUMBER .* in quotes"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("parameters<=100", 100, 0.0),
        ("parameters<=100", 150, 0.5),
        ("parameters<=100", 50, -0.5),
        ("val_accuracy>=0.5", 0.25, 0.5),
        ("loss<=0", 2.0, 2.0),
        ("loss<=1", math.nan, math.inf),
    ],
)
def test_violation_is_relative_to_the_bound(text: str, value: float, violation: float) -> None:
    assert parse(text).violation(value) == violation
    assert bool(parse(text).problem(value)) is (violation > 0)


def test_first_problem_names_figure_value_and_bound() -> None:
    bounds = [parse("latency_ms<=2"), parse("parameters<=500000"), parse("val_accuracy>=0.9")]
    figures = {"parameters": 1234567.0, "val_accuracy": 0.1}
    assert first_problem(bounds, figures) == "parameters is 1234567 > 500000 (--constraint)"
    assert first_problem(bounds, {"parameters": 5.0}) == ""


def test_plain_numbers_keep_their_digits() -> None:
    assert [plain(value) for value in (1e6, 0.1 + 0.2, 1234567.0, 1e20)] == [
        "1000000",
        "0.3",
        "1234567",
        "1e+20",
    ]
