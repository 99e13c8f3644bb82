"""Expiry of suspect leases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hpo.agent import leases
from hpo.agent.leases import LeaseMonitor
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
    monkeypatch.setattr(leases, "time", clock)
    return clock


def watch(monitor: LeaseMonitor, clock: Clock, seconds: int, lease: SuspectLease = UNTIL) -> int | None:
    """Look every second; return the number of seconds after which the lease expired."""
    for second in range(seconds):
        if monitor.expired({7: lease}):
            return second
        clock.now += 1.0
    return None


def test_lease_is_watched_for_two_renewals(clock: Clock) -> None:
    assert watch(LeaseMonitor(TIMES), clock, 100) == 20


def test_renewed_lease_is_watched_again_from_the_start(clock: Clock) -> None:
    monitor = LeaseMonitor(TIMES)
    assert watch(monitor, clock, 15) is None
    assert watch(monitor, clock, 100, lease=LATER) == 20


def test_lease_that_is_no_longer_suspect_is_forgotten(clock: Clock) -> None:
    monitor = LeaseMonitor(TIMES)
    assert watch(monitor, clock, 15) is None
    assert monitor.expired({}) == {}
    assert watch(monitor, clock, 100) == 20


def test_agent_restarts_its_observation_after_an_outage_of_its_own(clock: Clock) -> None:
    monitor = LeaseMonitor(TIMES)
    assert watch(monitor, clock, 15) is None
    clock.now += 100.0
    assert watch(monitor, clock, 100) == 20


def test_agent_that_seldom_looks_ends_leases_too(clock: Clock) -> None:
    monitor = LeaseMonitor(TIMES)
    looks = 0
    while not monitor.expired({7: UNTIL}):
        clock.now += 70.0
        looks += 1
        assert looks < 5


@pytest.mark.parametrize("lease_seconds", [12.0, 600.0])
def test_lease_expires_by_the_settings_of_its_agent(clock: Clock, lease_seconds: float) -> None:
    assert (
        watch(LeaseMonitor(TIMES), clock, 200, SuspectLease(UNTIL.until, lease_seconds)) == lease_seconds / 6
    )
