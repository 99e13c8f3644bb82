"""Confidence intervals and tests over seeds."""

from __future__ import annotations

import json
import math

import pytest
from scipy.stats import t, ttest_ind

from hpo.analysis.statistics import Interval, holm, shown_deviation, summarize, welch
from hpo.formatting import json_safe


def test_interval_is_students() -> None:
    found = summarize([0.9, 0.92, 0.94])
    half = t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert found.interval95 == pytest.approx((0.92 - half, 0.92 + half))
    assert found.to_json()["n"] == 3


def test_one_seed_has_no_interval() -> None:
    assert summarize([0.9]).interval95 is None
    found = welch([0.9], [0.8, 0.7])
    assert found.mean == pytest.approx(0.15)
    assert (found.interval95, found.p_value, found.exceeds_noise) == (None, None, None)


def test_welch_matches_its_formula() -> None:
    first, second = [0.93, 0.94, 0.95], [0.90, 0.91, 0.95]
    found = welch(first, second)
    a, b = 0.0001 / 3, 0.0007 / 3
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    half = t.ppf(0.975, freedom) * math.sqrt(a + b)
    assert found.interval95 == pytest.approx((0.02 - half, 0.02 + half))
    assert found.exceeds_noise is False
    assert welch([0.93, 0.94, 0.95], [0.80, 0.81, 0.82]).exceeds_noise is True


def test_equal_seeds_have_no_interval() -> None:
    # The floating-point mean of three times 2/3 is not exactly 2/3.
    found = summarize([2 / 3] * 3)
    assert (found.mean, found.standard_deviation, found.interval95) == (2 / 3, 0.0, None)
    assert found.describe() == "0.6667 ± 0.0000 (n = 3 seeds, all equal)"
    # So do balanced accuracies, which are means over classes: equal ones may differ in their last digit.
    rounded = summarize([0.5833333333333333, 0.5833333333333334])
    assert rounded.interval95 is None
    assert rounded.describe() == "0.5833 ± 0.0000 (n = 2 seeds, all equal)"
    assert "all equal" not in summarize([0.5]).describe()
    assert "all equal" not in summarize([0.5, 0.6]).describe()


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (15052.0, 4262.8758, "4263"),
        (15052.0, 0.0, "0"),
        (15052.0, 0.1234, "0.12"),
        (15052.0, 25000.0, "25000"),
        (3944.8671, 1575.9677, "1575.9677"),
        (9000.0, 12000.4, "12000"),
        (0.9294, 0.0137, "0.0137"),
        (0.9294, 0.00001, "0.0000"),
        (0.0006734, 0.0005123, "0.0005123"),
        (2.134e-05, 3e-06, "3e-06"),
        (-20002.0, 6249.6423, "6250"),
    ],
)
def test_deviation_is_as_precise_as_its_mean(mean: float, deviation: float, shown: str) -> None:
    assert shown_deviation(deviation, mean) == shown


def test_constant_samples_are_not_compared() -> None:
    assert welch([0.5, 0.5], [0.5, 0.5]).exceeds_noise is None
    assert welch([0.6, 0.6], [0.5, 0.5]).exceeds_noise is None


def test_holm_corrects_step_down() -> None:
    # Sorted: 0.01 x 3, 0.02 x 2, 0.03 x 1 is below the one before it.
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_have_no_interval(value: float) -> None:
    found = summarize([value, 0.5])
    assert not math.isfinite(found.mean)
    assert (found.standard_deviation, found.interval95, found.n) == (None, None, 2)


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [
        ((1e308, 1e308), 1e308, 0.0),
        ((1.7e308, 1.7e308, 1.7e308), 1.7e308, 0.0),
        ((1e308, -1e308), 0.0, 1.4142135623730951e308),
        ((1.7e308, -1.7e308), 0.0, math.inf),
        ((1e308, 1.0), 5e307, 7.0710678118654755e307),
    ],
)
def test_values_near_the_largest_float_have_a_summary(
    values: tuple[float, ...], mean: float, deviation: float
) -> None:
    found = summarize(values)
    assert found.mean == pytest.approx(mean)
    assert found.standard_deviation == pytest.approx(deviation)
    assert Interval.from_json(json.loads(json.dumps(json_safe(found.to_json())))) == found
    assert len(found.describe()) < 120
    assert welch(values, values[::-1]).p_value is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.9, 0.91, 0.95], [0.8, 0.85]),
        ([0.9, 0.91, 0.92], [0.5, 0.99, 0.7, 0.8]),
        ([1e-9, 2e-9, 4e-9], [1e-9, 1e-9, 3e-9]),
    ],
)
def test_difference_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    found, expected = welch(first, second), ttest_ind(first, second, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval95 == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # One sample of equal values: the t test of the other one, with one degree of freedom.
        ([0.9, 0.9], [0.8, 0.9], (0.05 - 12.7062 * 0.05, 0.05 + 12.7062 * 0.05)),
        ([1e150, -1e150], [0.0, 0.0], (-12.7062e150, 12.7062e150)),
        ([1e-200, 2e-200], [0.0, 0.0], None),
    ],
)
def test_difference_from_equal_or_extreme_values(
    first: list[float], second: list[float], expected: tuple[float, float] | None
) -> None:
    found = welch(first, second).interval95
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-4))
