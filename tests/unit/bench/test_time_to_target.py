"""Ratios of contestants that did not reach the target in time."""

from __future__ import annotations

import pytest

from bench.contestants import SERVICE, Outcome
from bench.time_to_target import _rows

LIMIT = 600.0
LATE = Outcome(best=0.98, trials=9, problem="not done after 600 s", out_of_time=True)
BROKEN = Outcome(problem="ended with [1]")


def reached(seconds: float) -> Outcome:
    return Outcome(seconds=seconds, best=0.99, trials=2)


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        ([reached(50), reached(70)], [reached(120)], 2.0),
        ([reached(60)], [LATE], "over 10.0"),
        # One lucky round of three does not change the median.
        ([reached(60)], [LATE, reached(100), LATE], "over 10.0"),
        ([reached(60)], [LATE, reached(120), reached(90)], 2.0),
        # Of the two in the middle, one is only known to have exceeded the limit.
        ([reached(60)], [LATE, reached(120)], "over 6.0"),
        ([reached(60)], [BROKEN], None),
        ([reached(60)], [BROKEN, reached(90)], 1.5),
        ([LATE], [reached(90)], None),
    ],
)
def test_timeout_counts_as_slower_than_all_and_failure_is_excluded(
    ours: list, theirs: list, ratio: object
) -> None:
    found = {(SERVICE.name, False): ours, ("peer", False): theirs}
    _, row = _rows(found, LIMIT)
    assert row["hpo is faster by"] == ratio
    assert row["n"] == f"{sum(one.seconds is not None for one in theirs)} of {len(theirs)}"
