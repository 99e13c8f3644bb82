"""Limits of memory, disk and time: a trial that exceeds them does not affect the others."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path

from tests.acceptance.service import Running, Service

EPOCHS = 40


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of each trial's checkpoints; the agent may delete a folder meanwhile."""
    found = {}
    for trial in folder.glob("trial-*"):
        with suppress(FileNotFoundError):
            found[trial.name] = sum(file.stat().st_size for file in trial.iterdir())
    return found


def interrupted(service: Service, workers: int) -> Path:
    """Create checkpoints of as many waiting trials as there are workers."""
    agent = service.begin(trials=workers, workers=workers, epochs=EPOCHS)
    agent.send_signal(signal.SIGTERM)
    agent.wait().clean(130)
    service.set(TEST_EPOCH_SECONDS=0)
    return service.checkpoints


def test_trial_over_memory_limit_ends_as_out_of_memory(service: Service) -> None:
    limit = ("--memory-per-worker", "512M", "--pruner", "none")
    service.launched("Greedy", "--trials", 3, "--workers", 1, *limit).clean()
    outcomes = [row.outcome for row in service.rows("SELECT outcome FROM hpo.trials ORDER BY number")]
    assert outcomes == ["complete", "oom", "complete"]


def test_trial_that_hangs_repeatedly_fails(service: Service) -> None:
    ended = service.launched(
        "Moody", "--param", "mood=hang", "--workers", 1, "--trials", 1,
        "--hung-after", "1s", "--max-lost", 2, "--max-failed", 1,
    )  # fmt: skip
    assert "lost 2 times, the last time: no progress for 1 s" in ended.complaint()
    attempts = service.rows("SELECT outcome, resumed_from FROM hpo.attempts ORDER BY attempt_id")
    assert [(a.outcome, a.resumed_from) for a in attempts] == [("hung", 0), ("hung", 1)]
    (trial,) = service.rows("SELECT outcome, told_optuna, epochs FROM hpo.trials")
    assert tuple(trial) == ("hung", True, 1)
    (shown,) = json.loads(service.hpo("trials", "--study", "s", "--json").clean().out)
    assert (shown["state"], "no progress for 1 s" in shown["why"]) == ("hung", True)


def test_checkpoint_quota_deletes_least_valuable_checkpoints(service: Service) -> None:
    folder = interrupted(service, workers=4)
    # The first one goes on first: it must not be the least valuable.
    for trial in (2, 3, 4):
        max((folder / f"trial-{trial}").glob("epoch-*.npz")).unlink()
    before = sizes(folder)
    assert len(before) == 4
    epochs = {name: max(file.stem for file in (folder / name).glob("epoch-*.npz")) for name in before}
    quota = sum(before.values()) // 2
    service.set(TEST_EPOCH_SECONDS=0.2)
    agent: Running = service.start(
        "launch", "--study", "s", "--workers", 1, "--checkpoint-quota", quota, "--pruner", "none"
    )
    service.wait_for(lambda: sum(sizes(folder).values()) <= quota)
    deleted = set(before) - set(sizes(folder))
    service.hurry()
    assert len(deleted) < len(before)
    assert agent.wait().code == 0
    service.check_records(4, EPOCHS)
    first, *waiting = service.rows(
        "SELECT reservation_id, resumed_from FROM hpo.attempts WHERE outcome = 'complete' ORDER BY attempt_id"
    )
    assert first.resumed_from > 0
    # A slow machine may exceed the quota again while the first trial runs.
    restarted = {f"trial-{row.reservation_id}" for row in waiting if row.resumed_from == 0}
    resumed = {f"trial-{row.reservation_id}" for row in waiting} - restarted
    assert restarted >= deleted
    assert resumed
    assert max((epochs[name] for name in restarted), default="") <= min(epochs[name] for name in resumed)
    assert sizes(folder) == {}


def test_damaged_checkpoint_falls_back_to_previous_one(service: Service) -> None:
    folder = interrupted(service, workers=1)
    (older, newest) = sorted(folder.glob("trial-*/epoch-*.npz"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 0xFF
    newest.write_bytes(content)
    service.finish(1, EPOCHS)
    resumed = service.value("SELECT resumed_from FROM hpo.attempts WHERE outcome = 'complete'")
    assert resumed == int(older.stem.partition("-")[2])


def test_checkpoints_newer_than_restored_database_are_ignored(service: Service) -> None:
    """A home may hold checkpoints newer than a database that was restored from an older dump."""
    folder = interrupted(service, workers=1)
    (left,) = folder.glob("trial-*")
    mark = service.value("SELECT uid FROM hpo.studies")
    service.rows("TRUNCATE studies, hpo.studies RESTART IDENTITY CASCADE")
    assert service.launched("Counted", "--trials", 1, "--no-run").code == 0
    service.rows("UPDATE hpo.studies SET uid = :m", m=mark)
    assert service.hpo("launch", "--study", "s", "--workers", 1).code == 0
    assert [row.reservation_id for row in service.rows("SELECT reservation_id FROM hpo.trials")] == [1]
    assert left.name == "trial-1"
    service.check_records(1, epochs=4)
    assert service.value("SELECT resumed_from FROM hpo.attempts") == 0


def test_same_named_study_of_another_database_keeps_checkpoints_apart(
    service: Service, empty_storage_url: str
) -> None:
    folder = interrupted(service, workers=1)
    before = sizes(folder)
    assert before
    elsewhere = service.launched("Counted", "--trials", 2, "--workers", 1, "--storage", empty_storage_url)
    assert elsewhere.code == 0
    assert sizes(folder) == before
    service.finish(1, EPOCHS, "--workers", 1)
    assert service.value("SELECT resumed_from FROM hpo.attempts WHERE outcome = 'complete'") >= 3


def test_crash_under_memory_limit_counts_as_out_of_memory(service: Service) -> None:
    """Native code whose allocation fails aborts without a message."""
    ended = service.launched(
        "Moody", "--param", "mood=die", "--workers", 1, "--trials", 1, "--max-lost", 2,
        "--memory-per-worker", "2G",
    )  # fmt: skip
    assert "no trial of the study is complete" in ended.complaint()
    (trial,) = service.rows("SELECT outcome, error, told_optuna FROM hpo.trials")
    assert (trial.outcome, trial.told_optuna) == ("oom", True)
    assert "SIGABRT" in trial.error
