"""Agents end the leases of others on PostgreSQL, by clocks that jump."""

from __future__ import annotations

import time

import pytest

from hpo.agent.store.trial_store import TrialStore
from storage import leases
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hpo.agent.leases.time", clock)
    return clock


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return StoredStudy(database)


def running(store: TrialStore) -> int:
    """Reap expired leases and return the number of running trials."""
    store.reap_expired()
    return store.refresh().counts.running


def renew(study: StoredStudy, agent: TrialStore) -> None:
    study.database.transaction(lambda c: leases.renew(c, agent.agent_id, 120.0))


def test_new_agent_lets_others_renew_first(study: StoredStudy) -> None:
    first = study.agent()
    claim = claimed(first)
    study.expire_leases()
    second = study.agent(grace_renewals=2.0)
    assert running(second) == 1, "the first may be about to renew"
    renew(study, first)
    train(first, claim)
    assert study.optuna.best_value == 0.5


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_jump_of_the_database_clock_costs_no_live_attempt(
    study: StoredStudy, clock: Clock, seconds: int
) -> None:
    first, second = (study.agent(grace_renewals=2.0) for _ in range(2))
    claimed(first)
    assert running(second) == 1
    study.expire_leases(seconds)
    for second_of_clock in range(60):
        clock.now += 1.0
        if second_of_clock % 10 == 9:
            renew(study, first)
        assert running(second) == 1
    # Without renewals the lease expires.
    study.expire_leases(seconds)
    for _ in range(60):
        clock.now += 1.0
        second.reap_expired()
    assert running(second) == 0


def test_agent_gives_others_time_to_renew_after_an_outage(study: StoredStudy, clock: Clock) -> None:
    claimed(study.agent())
    store = study.agent(grace_renewals=2.0)
    store.reap_expired()
    study.expire_leases()
    clock.now += 100.0
    assert running(store) == 1, "this agent was offline itself"
    clock.now += 19.0
    assert running(store) == 1
    clock.now += 2.0
    assert running(store) == 0


def test_lease_expires_after_the_grace_time(study: StoredStudy) -> None:
    claimed(study.agent(lease_seconds=0.6))
    study.expire_leases()
    second = study.agent(lease_seconds=0.6, grace_renewals=2.0)
    began_at = time.monotonic()
    while running(second):
        assert time.monotonic() - began_at < 30.0
        time.sleep(0.01)
    assert time.monotonic() - began_at >= second.times.grace_seconds
