"""Logs and checkpoints that agents left, checked against PostgreSQL before they are touched."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from hpo.agent.cleanup import Cleanup
from hpo.agent.store.trial_store import TrialStore
from storage import agents
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed

WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


class Host:
    """The folder of logs of a host whose agents search one study."""

    def __init__(self, study: StoredStudy, logs: Path) -> None:
        self.study, self.logs = study, logs

    def attempt(self, store: TrialStore) -> tuple[Claim, Path]:
        """Claim a trial and write the log of its attempt."""
        claim = claimed(store)
        _, number, _ = store.sample(claim)
        path = self.logs / f"trial-{number}-attempt-{claim.attempt_id}.log"
        path.write_text("printed")
        return claim, path

    def cleaned(self, store: TrialStore, *held: int, seconds: float = 0.0) -> set[str]:
        """Clean up orphaned logs and return the names of those that remain."""
        Cleanup("s", store, self.logs, self.logs, None).keep_orphaned_logs(frozenset(held), seconds)
        return {path.name for path in self.logs.iterdir()}

    @property
    def uploaded(self) -> dict[int, str]:
        """Uploaded log of each attempt."""
        query = text("SELECT attempt_id, tail FROM hpo.attempt_logs")
        return dict(self.study.database.transaction(lambda c: c.execute(query).all()))


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return StoredStudy(database)


@pytest.fixture
def host(study: StoredStudy, tmp_path: Path) -> Host:
    return Host(study, tmp_path)


def test_log_of_a_reaped_agent_is_uploaded(study: StoredStudy, host: Host) -> None:
    first = study.agent()
    claim, _ = host.attempt(first)
    study.database.transaction(lambda c: agents.reap_agent(c, first.agent_id, 3))
    assert host.cleaned(study.agent(), seconds=3600.0) == set()
    assert host.uploaded == {claim.attempt_id: "printed"}


def test_log_stays_while_its_agent_may_write_to_it(study: StoredStudy, host: Host) -> None:
    first, second = study.agent(), study.agent()
    claim, path = host.attempt(first)
    assert host.cleaned(second) == {path.name}, "it runs"
    study.expire_leases()
    second.reap_expired()
    assert host.cleaned(second, seconds=60.0) == {path.name}, "its agent may not know that it has ended"
    assert host.cleaned(first, claim.attempt_id) == {path.name}
    assert host.uploaded == {}
    study.execute("UPDATE hpo.attempts SET ended_at = ended_at - interval '61 s'")
    assert host.cleaned(second, seconds=60.0) == set()
    assert host.uploaded == {claim.attempt_id: "printed"}


def test_logs_of_unknown_attempts_are_removed_after_a_day(study: StoredStudy, host: Host) -> None:
    """They may belong to a running study of the same name in another database."""
    store = study.agent()
    claim, path = host.attempt(store)
    store.release(claim.attempt_id)
    unknown = {"trial-0-attempt-77.log", f"trial-7-attempt-{claim.attempt_id}.log"}
    path.unlink()
    for name in (*unknown, f"trial-0-attempt-{'9' * 30}.log", "trial-0-attempt-x.log", "retrain-seed-1.log"):
        (host.logs / name).write_text("of something else")
    before = {path.name for path in host.logs.iterdir()}
    assert host.cleaned(store) == before
    two_days_ago = time.time() - 2 * 86400
    for path in host.logs.iterdir():
        os.utime(path, (two_days_ago, two_days_ago))
    assert host.cleaned(store) == before - unknown
    assert host.uploaded == {}


def test_unreadable_orphaned_log_is_ignored(study: StoredStudy, host: Host) -> None:
    store = study.agent()
    claim, path = host.attempt(store)
    store.release(claim.attempt_id)
    path.unlink()
    path.mkdir()
    assert host.cleaned(store) == {path.name}


def test_trial_is_not_claimed_while_its_checkpoints_are_removed(study: StoredStudy) -> None:
    first, second = study.agent(), study.agent()
    claim = claimed(first)
    touched: list[int] = []
    assert not second.files.while_waiting(claim.reservation_id, lambda: touched.append(1)), "it is held"
    first.release(claim.attempt_id)
    claims: list[Claim | NoWork] = []
    claimer = threading.Thread(target=lambda: claims.append(first.claim(0, "cpu:0")))

    def remove() -> None:
        claimer.start()
        # The claim waits for the lock on the study's row.
        while not study.scalar(WAITING):
            assert not claims
        touched.append(2)

    assert second.files.while_waiting(claim.reservation_id, remove)
    claimer.join(30.0)
    assert touched == [2]
    assert isinstance(claims[0], Claim)
    assert claims[0].reservation_id == claim.reservation_id
