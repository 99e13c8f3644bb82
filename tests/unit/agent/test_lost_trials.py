"""Trials that are lost, fail or hang."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace

import psycopg2
import pytest
from sqlalchemy.exc import DBAPIError

from hpo.errors import DiskFullError, ObjectiveFailedError
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.trainer import supervisor as supervisor_module
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.ends.exits import Blame, Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Epoch, EpochRecord, Finished, Start, Started
from hpo.trainer.testing import FakePool, trained
from storage.claiming.claims import Claim
from tests.unit.agent.world import CRASHED, KILLED, STARVED, World, epoch, events


@pytest.mark.parametrize("method", ["begin", "record", "should_prune"])
def test_trial_whose_event_cannot_be_handled_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    owner = world.store.judgement if method == "should_prune" else world.store
    handle = getattr(owner, method)

    def fail_first(attempt_id: int, *args: object) -> object:
        if attempt_id == 1:
            raise OverflowError("too large")
        return handle(attempt_id, *args)

    monkeypatch.setattr(owner, method, fail_first)
    world.study.budget, world.pool = 3, FakePool(slots=2)
    assert world.run() is ExitCode.DONE
    assert world.outcomes == [Outcome.BUG, *[Outcome.COMPLETE] * 3]
    failed = world.progress.ended[0] if world.progress.ended[0].outcome is Outcome.BUG else None
    failed = failed or next(end for end in world.progress.ended if end.outcome is Outcome.BUG)
    assert failed.error == "an event of the trial cannot be handled: OverflowError: too large"
    assert 0 in world.pool.killed or 1 in world.pool.killed


def test_trial_that_cannot_be_sampled_fails_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = world.store.sample

    def fail_first(claim: Claim) -> object:
        if claim.attempt_id == 1:
            raise OverflowError("range exceeds valid bounds")
        return sample(claim)

    monkeypatch.setattr(world.store, "sample", fail_first)
    world.study.budget = 2
    assert world.run() is ExitCode.DONE
    assert world.outcomes == [Outcome.BUG, *[Outcome.COMPLETE] * 2]


@pytest.mark.parametrize(
    "error", [DBAPIError("INSERT", {}, psycopg2.ProgrammingError("no such table")), DiskFullError("full")]
)
def test_failure_of_the_database_is_not_one_of_a_trial(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.store, "record", fail)
    with pytest.raises(type(error)):
        world.run()
    assert world.outcomes == [None]


def test_lost_trial_resumes_and_its_epochs_are_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "hpo")
    first = EpochRecord(1, {"loss": 0.7}, 500.0)
    world.pool.scripts = [
        events(Started(1, 0), Epoch(first), KILLED),
        events(Started(2, 1, (first,)), epoch(2), Finished(Outcome.COMPLETE)),
    ]
    world.run()
    assert (world.attempts, world.outcomes) == ([Outcome.LOST, Outcome.COMPLETE], [Outcome.COMPLETE])
    assert world.study.trials[0].epochs == {1: {"loss": 0.7}, 2: {"loss": 0.5}}
    begun = [
        (record.attempt, record.message) for record in caplog.records if record.message.startswith("process ")
    ]
    assert begun == [(1, "process 1 starts"), (2, "process 2 resumes after epoch 1")]
    # The end of a trial shows the time of all its epochs, as `hpo trials` does.
    assert 500.0 <= world.progress.ended[-1].seconds < 560.0


def test_trial_whose_checkpoint_does_not_fit_starts_again_from_epoch_1(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = EpochRecord(1, {"loss": 0.7}, 0.01)
    trial = CheckpointFolder(world.folder / "checkpoints" / "s" / "trial-1")

    def refuse(_start: Start) -> list[Event]:
        trial.write([first], {"w16": 1.0})
        return [Started(2, 1, (first,)), Finished(Outcome.MISFIT, "KeyError: 'w32'")]

    def train_again(start: Start) -> list[Event]:
        assert trial.files() == []
        return trained(start)

    world.pool.scripts = [events(Started(1, 0), Epoch(first), KILLED), refuse, train_again]
    world.run()
    assert world.attempts == [Outcome.LOST, Outcome.RELEASED, Outcome.COMPLETE]
    assert world.study.trials[0].epochs == {1: {"loss": 1.0}, 2: {"loss": 0.5}}
    assert world.study.trials[0].lost == 1
    assert caplog.messages[-1] == (
        "the checkpoint of epoch 1 does not fit the objective (KeyError: 'w32'): starting again from epoch 1"
    )


@pytest.mark.parametrize(
    ("exited", "memory_bytes", "outcome"),
    [
        (STARVED, None, Outcome.OUT_OF_MEMORY),
        (CRASHED, 1 << 30, Outcome.OUT_OF_MEMORY),
        (CRASHED, None, Outcome.LOST),
        (KILLED, 1 << 30, Outcome.LOST),
    ],
)
def test_exit_counts_as_out_of_memory_if_memory_was_refused(
    world: World, exited: TrainerExited, memory_bytes: int | None, outcome: Outcome
) -> None:
    world.pool.scripts = [events(Started(1, 0), exited)]
    world.run(memory_bytes=memory_bytes)
    assert world.attempts == [outcome, Outcome.COMPLETE]


def test_spawn_failure_is_retried_and_costs_no_attempt(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.pool.scripts = [events(SpawnFailed("Resource temporarily unavailable"))]
    world.run()
    assert world.attempts == [Outcome.RELEASED, Outcome.COMPLETE]
    assert world.study.trials[0].lost == 0
    assert caplog.messages == ["could not start a process (Resource temporarily unavailable); retrying"]
    assert (caplog.records[0].trial, caplog.records[0].attempt) == (0, 1)


def test_spawn_is_not_retried_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "SPAWN_RETRY_SECONDS", 60.0)
    world.pool.scripts = [events(SpawnFailed("full"))]
    world.signal(20, signal.SIGTERM)
    world.run()
    assert len(world.pool.starts) == 1


@pytest.mark.parametrize("noticed_at", ["renewal", "write"])
def test_fenced_attempt_is_killed_and_dropped(
    world: World, caplog: pytest.LogCaptureFixture, noticed_at: str
) -> None:
    world.pool.scripts = [events(Started(1, 0))] if noticed_at == "renewal" else []

    def fence() -> None:
        world.expire()
        world.renewal.lost = frozenset({1} if noticed_at == "renewal" else ())

    world.after(3 if noticed_at == "renewal" else 2, fence)
    world.run()
    assert world.pool.killed == [0]
    assert world.attempts == [Outcome.LOST, Outcome.COMPLETE]
    assert caplog.messages == [
        "another agent has taken the trial over, or hpo kill has ended it: this attempt was ended"
    ]
    assert (caplog.records[0].trial, caplog.records[0].attempt) == (0, 1)


def test_full_disk_releases_the_trial_and_fails_the_agent(world: World) -> None:
    world.pool.scripts = [events(Started(1, 0), Finished(Outcome.DISK_FULL, "no space left"))]
    with pytest.raises(DiskFullError, match="no space left"):
        world.run()
    assert (world.attempts, world.outcomes) == ([Outcome.RELEASED], [None])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_non_finite_last_value_settles_a_trial_as_diverged(world: World, loss: float) -> None:
    world.pool.scripts = [
        events(Started(1, 0), epoch(1), epoch(2, loss), Finished(Outcome.COMPLETE)),
    ]
    world.run()
    assert world.outcomes == [Outcome.DIVERGED]
    assert world.study.trials[0].error == "loss is not finite"


def test_same_bug_stops_the_agent_after_three_trials(world: World) -> None:
    world.study.budget = 10
    world.pool.default = events(Started(1, 0), Finished(Outcome.BUG, "ValueError: bad"))
    with pytest.raises(ObjectiveFailedError, match="3 trials have failed with ValueError: bad"):
        world.run()
    assert world.outcomes == [Outcome.BUG] * 3


@pytest.mark.parametrize(
    ("script", "outcome", "lost", "templates_replaced"),
    [
        pytest.param([Started(1, 0)], Outcome.HUNG, 1, 0, id="the trainer hangs"),
        pytest.param([], Outcome.RELEASED, 0, 1, id="its template hangs, which costs no attempt"),
    ],
)
def test_trial_without_progress_is_killed_and_resumes(
    world: World, script: list[Event], outcome: Outcome, lost: int, templates_replaced: int
) -> None:
    world.pool.scripts = [events(*script)]
    world.run(hung_seconds=0.05)
    assert (world.pool.templates_replaced, world.pool.killed) == (templates_replaced, [0])
    assert world.attempts == [outcome, Outcome.COMPLETE]
    assert world.study.trials[0].lost == lost


@pytest.mark.parametrize(
    ("stopped", "outcomes"),
    [
        pytest.param([2], [Outcome.COMPLETE], id="frozen with its container"),
        pytest.param(range(2, 40), [Outcome.HUNG, Outcome.COMPLETE], id="busy, and the trainer hangs"),
    ],
)
def test_time_in_which_an_agent_does_not_listen_hardly_counts_as_silence(
    world: World, monkeypatch: pytest.MonkeyPatch, stopped: Sequence[int], outcomes: list[Outcome]
) -> None:
    turns, ahead, monotonic = count(1), 0.0, time.monotonic

    def on_wait() -> None:
        nonlocal ahead
        turn = next(turns)
        ahead += 7200.0 * (turn in stopped)
        if turn == 4 and turn not in stopped:
            world.finish_first()

    clock = SimpleNamespace(monotonic=lambda: monotonic() + ahead)
    monkeypatch.setattr("hpo.process.listening_clock.time", clock)
    world.pool.on_wait = on_wait
    world.pool.scripts = [events(Started(1, 0))]
    world.run(hung_seconds=60.0)
    assert world.attempts == outcomes


def test_trial_lost_too_often_fails(world: World) -> None:
    world.study.spec.__dict__["max_failed"] = 1
    world.pool.default = events(Started(1, 0), KILLED)
    with pytest.raises(ObjectiveFailedError):
        world.run()
    assert world.attempts == [Outcome.LOST] * world.study.spec.max_lost
    assert world.outcomes == [Outcome.LOST]


def test_trials_that_die_together_resume_and_those_among_the_dead_twice_train_alone(world: World) -> None:
    def die(_: Start) -> Sequence[Event]:
        return [Started(1, 0), TrainerExited("its process was ended by SIGKILL", -9, blame=Blame.SHARED)]

    world.pool.scripts = [die, die]
    assert world.run() is ExitCode.DONE
    assert [start.alone for start in world.pool.starts][:3] == [False, False, True]
    assert Outcome.LOST not in world.outcomes


@pytest.mark.parametrize(
    ("shared", "outcome"), [({0, 1}, Outcome.RELEASED), (set(), Outcome.HUNG)], ids=["one process", "two"]
)
def test_trials_of_one_process_that_fall_silent_together_are_not_lost(
    world: World, shared: set[int], outcome: Outcome
) -> None:
    world.study.budget, world.pool = 2, FakePool(slots=2, shared=frozenset(shared))
    world.pool.scripts = [events(Started(1, 0))] * 2
    world.run(hung_seconds=0.05)
    assert world.pool.killed == [0, 1]
    assert world.attempts == [outcome] * 2 + [Outcome.COMPLETE] * 2
