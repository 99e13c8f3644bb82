"""The share of busy slots."""

from __future__ import annotations

import pytest

from bench.overhead import busy_share


def test_slots_without_gaps_are_busy() -> None:
    spans = [(float(n), float(n + 1)) for n in range(4) for _ in range(2)]
    assert busy_share(spans, 2) == pytest.approx(1.0)


def test_gap_between_two_trials_counts_as_idle() -> None:
    # Each slot trains for 1 s and waits for 0.25 s.
    spans = [(1.25 * n, 1.25 * n + 1) for n in range(5) for _ in range(2)]
    assert busy_share(spans, 2) == pytest.approx(0.8)


def test_ramp_up_and_tail_do_not_count() -> None:
    steady = [(float(n), float(n + 1)) for n in range(10, 14) for _ in range(2)]
    early, late = (5.0, 10.0), (14.0, 30.0)
    assert busy_share([early, *steady, late], 2) == pytest.approx(1.0)
