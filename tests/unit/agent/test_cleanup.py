"""`Cleanup` on a store in memory, a temporary folder and a clock of the test."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpo.agent import cleanup as cleanup_module
from hpo.agent.cleanup import LOG_SECONDS, QUOTA_SECONDS, UNKNOWN_SECONDS, Cleanup
from hpo.agent.store.testing.study import FakeStudy
from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.outcomes import Outcome
from storage.claiming.claims import Claim
from tests.specs import spec

SPEC = spec()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class Host:
    """An agent's files; another agent has left some."""

    def __init__(self, folder: Path) -> None:
        self.study = FakeStudy(spec=SPEC, budget=3)
        self.store, self.dead = FakeTrialStore(self.study), FakeTrialStore(self.study)
        self.logs, self.checkpoints = folder / "logs", folder / "checkpoints"
        self.logs.mkdir()

    def cleanup(self, quota: int | None = None) -> Cleanup:
        return Cleanup("s", self.store, self.checkpoints, self.logs, quota)

    def attempt(self, store: FakeTrialStore, slot: int = 0) -> tuple[Claim, Path]:
        """Return an attempt that has printed something and saved two checkpoints, and its log."""
        claim = store.claim(slot, "cpu")
        assert isinstance(claim, Claim)
        _, number, _ = store.sample(claim)
        folder = self.cleanup().checkpoints_of(claim.reservation_id).path
        folder.mkdir(parents=True, exist_ok=True)
        for epoch in (1, 2):
            (folder / f"epoch-{epoch:06}.npz").write_bytes(b"x" * 100)
        log = self.logs / f"trial-{number}-attempt-{claim.attempt_id}.log"
        log.write_text("printed")
        return claim, log

    @property
    def saved(self) -> list[str]:
        return sorted(f"{path.parent.name}:{int(path.stem[6:])}" for path in self.checkpoints.rglob("*.npz"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cleanup_module, "time", clock)
    return clock


def test_log_of_a_dead_agent_is_uploaded_and_removed(host: Host) -> None:
    claim, log = host.attempt(host.dead)
    host.cleanup().keep_orphaned_logs(frozenset(), 60.0)
    assert (log.exists(), host.study.logs) == (True, {}), "its attempt is open"
    host.dead.leave()
    host.cleanup().keep_orphaned_logs(frozenset({claim.attempt_id}), 60.0)
    assert (log.exists(), host.study.logs) == (True, {}), "held by this agent"
    host.cleanup().keep_orphaned_logs(frozenset(), 60.0)
    assert (log.exists(), host.study.logs) == (False, {claim.attempt_id: "printed"})


def test_logs_of_unknown_attempts_are_removed_after_a_day(host: Host) -> None:
    """Those of a study of the same name, deleted since or in another database, which may be running."""
    claim, log = host.attempt(host.store)
    host.store.release(claim.attempt_id)
    log.rename(host.logs / f"trial-7-attempt-{claim.attempt_id}.log")
    for name in ("trial-0-attempt-77", f"trial-0-attempt-{'9' * 30}", "trial-0-attempt-x", "retrain-seed-1"):
        (host.logs / f"{name}.log").write_text("of something else")
    before = {path.name for path in host.logs.iterdir()}
    for age, removed in (
        (UNKNOWN_SECONDS - 60, set()),
        (UNKNOWN_SECONDS + 60, {"trial-0-attempt-77.log", f"trial-7-attempt-{claim.attempt_id}.log"}),
    ):
        for path in host.logs.iterdir():
            os.utime(path, (time.time() - age, time.time() - age))
        host.cleanup().keep_orphaned_logs(frozenset(), 0.0)
        assert {path.name for path in host.logs.iterdir()} == before - removed
    assert host.study.logs == {}


def test_unreadable_orphaned_log_is_ignored(host: Host) -> None:
    claim, log = host.attempt(host.store)
    host.store.release(claim.attempt_id)
    log.unlink()
    log.mkdir()
    host.cleanup().keep_orphaned_logs(frozenset(), 0.0)
    assert log.exists()


def test_missing_folder_of_logs_is_no_error(host: Host) -> None:
    host.logs.rmdir()
    host.cleanup().keep_orphaned_logs(frozenset(), 0.0)


def test_log_of_a_new_attempt_is_empty(host: Host) -> None:
    (host.logs / "trial-0-attempt-1.log").write_text("of another database")
    assert not host.cleanup().open_log(0, 1).path.exists()


def test_running_logs_are_uploaded_every_few_seconds(host: Host, clock: Clock) -> None:
    cleanup = host.cleanup()
    log = cleanup.open_log(0, 1)
    for printed, passed, uploaded in (
        ("a", 0.0, "a"),
        ("b", LOG_SECONDS / 2, "a"),
        ("c", LOG_SECONDS, "abc"),
    ):
        with log.path.open("a") as file:
            file.write(printed)
        clock.now += passed
        cleanup.run_due([log])
        assert host.study.logs == {1: uploaded}


def test_checkpoints_of_finished_trials_are_removed(host: Host) -> None:
    running, _ = host.attempt(host.store, 0)
    finished, _ = host.attempt(host.store, 1)
    host.store.settle(finished.attempt_id, Outcome.COMPLETE, 0.5)
    host.cleanup().remove_checkpoints()
    name = f"trial-{running.reservation_id}"
    assert host.saved == [f"{name}:1", f"{name}:2"]


def test_quota_is_enforced_every_few_seconds_and_its_warning_is_not_repeated(
    host: Host, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Trials that wait lose their checkpoints first; those that run keep the newest one."""
    running, _ = host.attempt(host.store, 0)
    waiting, _ = host.attempt(host.store, 1)
    host.store.release(waiting.attempt_id)
    newest = f"trial-{running.reservation_id}:2"
    cleanup = host.cleanup(quota=150)
    cleanup.run_due([])
    assert (host.saved, caplog.messages) == ([newest], [])
    again, _ = host.attempt(host.store, 1)
    clock.now += QUOTA_SECONDS / 2
    cleanup.run_due([])
    assert len(host.saved) == 3
    for _ in range(2):
        clock.now += QUOTA_SECONDS
        cleanup.run_due([])
        assert host.saved == [newest, f"trial-{again.reservation_id}:2"]
        (warning,) = caplog.messages
        assert warning.startswith(
            "the newest checkpoints of running trials alone take 200 B, more than --checkpoint-quota 150 B: raise it"
        )
    host.store.release(again.attempt_id)
    clock.now += QUOTA_SECONDS
    cleanup.run_due([])
    assert host.saved == [newest]


def test_study_without_a_quota_is_not_measured_periodically(host: Host, clock: Clock) -> None:
    finished, _ = host.attempt(host.store)
    host.store.settle(finished.attempt_id, Outcome.COMPLETE, 0.5)
    clock.now += 10 * QUOTA_SECONDS
    host.cleanup().run_due([])
    assert len(host.saved) == 2
