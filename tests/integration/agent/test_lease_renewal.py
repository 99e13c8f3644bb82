"""Renewal of leases continues after any error, and stops with the agent's loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from hpo.agent import leases as agent_leases
from hpo.agent.leases import LeaseRenewal
from storage.engine import Database
from storage.leases import LeaseTimes
from tests.integration.storage.study_driver import StudyDriver

TIMES = LeaseTimes(lease_seconds=1.2)


@pytest.fixture
def study(database: Database) -> StudyDriver:
    return StudyDriver(database)


@pytest.fixture
def renewal(study: StudyDriver) -> Iterator[LeaseRenewal]:
    renewal = LeaseRenewal(study.database, study.agent_id, TIMES, frozenset)
    renewal.start()
    yield renewal
    renewal.close()
    assert not renewal.is_alive()


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def run(database: Database, sql: str) -> None:
    database.transaction(lambda c: c.execute(text(sql)))


def test_leases_of_a_hung_agent_expire(
    study: StudyDriver, renewal: LeaseRenewal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewing thread runs, but the agent's loop does not."""
    claim = study.claimed()
    live = "SELECT lease_until > clock_timestamp() FROM hpo.attempts WHERE attempt_id = :id"
    # The claim's own lease is long: without this wait, no renewal may come before the agent counts as hung.
    until = study.attempt(claim).lease_until
    wait_for(lambda: study.attempt(claim).lease_until < until)
    monkeypatch.setattr(agent_leases, "STUCK_SECONDS", 0.3)
    wait_for(lambda: not study.row(live, claim.attempt_id)[0])
    monkeypatch.setattr(agent_leases, "STUCK_SECONDS", 600.0)
    renewal.heartbeat()
    wait_for(lambda: study.row(live, claim.attempt_id)[0])


def test_renewal_continues_after_an_unexpected_error(study: StudyDriver, renewal: LeaseRenewal) -> None:
    claim = study.claimed()
    run(study.database, "ALTER TABLE hpo.attempts RENAME TO away")
    wait_for(lambda: renewal.last_error)
    assert "attempts" in (renewal.last_error or "")
    run(study.database, "ALTER TABLE hpo.away RENAME TO attempts")
    wait_for(lambda: renewal.last_error is None)
    before = study.attempt(claim).lease_until
    wait_for(lambda: study.attempt(claim).lease_until > before)
    assert renewal.fenced() == frozenset()
