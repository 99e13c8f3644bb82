"""When a lease that looks run out is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hpo.agent import lease_expiry
from hpo.agent.lease_expiry import LeaseMonitor
from storage.leases import LeaseTimes, SuspectLease

TIMES = LeaseTimes(lease_seconds=120.0, grace_renewals=2.0)
UNTIL = SuspectLease(datetime(2026, 1, 1, tzinfo=UTC), 120.0)
LATER = SuspectLease(UNTIL.until + timedelta(seconds=10), 120.0)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease_expiry, "time", clock)
    return clock


def watch(judge: LeaseMonitor, clock: Clock, seconds: int, lease: SuspectLease = UNTIL) -> int | None:
    """Look every second; after how many the lease was given up."""
    for second in range(seconds):
        if judge.judge({7: lease}):
            return second
        clock.now += 1.0
    return None


def test_a_lease_is_watched_for_two_renewals(clock: Clock) -> None:
    assert watch(LeaseMonitor(TIMES), clock, 100) == 20


def test_one_that_is_renewed_meanwhile_is_watched_anew(clock: Clock) -> None:
    judge = LeaseMonitor(TIMES)
    assert watch(judge, clock, 15) is None
    assert watch(judge, clock, 100, lease=LATER) == 20


def test_one_that_is_not_doubtful_any_more_is_forgotten(clock: Clock) -> None:
    judge = LeaseMonitor(TIMES)
    assert watch(judge, clock, 15) is None
    assert judge.judge({}) == {}
    assert watch(judge, clock, 100) == 20


def test_after_an_outage_of_its_own_an_agent_watches_anew(clock: Clock) -> None:
    judge = LeaseMonitor(TIMES)
    assert watch(judge, clock, 15) is None
    clock.now += 100.0
    assert watch(judge, clock, 100) == 20


def test_who_seldom_looks_judges_too(clock: Clock) -> None:
    judge = LeaseMonitor(TIMES)
    looks = 0
    while not judge.judge({7: UNTIL}):
        clock.now += 70.0
        looks += 1
        assert looks < 5


@pytest.mark.parametrize("lease_seconds", [12.0, 600.0])
def test_who_has_other_settings_is_judged_by_its_own(clock: Clock, lease_seconds: float) -> None:
    assert (
        watch(LeaseMonitor(TIMES), clock, 200, SuspectLease(UNTIL.until, lease_seconds)) == lease_seconds / 6
    )
