"""An agent that ends while trials run."""

from __future__ import annotations

import signal

import pytest

from hpo.errors import HpoError, ObjectiveBrokenError, StorageUnreachableError
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode, Shutdown
from hpo.trainer.ends import overdue
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Command, Ending, Finished, Started, Tick
from hpo.trainer.testing import FakePool
from tests.unit.agent.world import CRASHED, KILLED, TERMINATED, World, events


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (lambda world: setattr(world.study, "desired_state", "stop"), ExitCode.DONE),
        (lambda world: world.signals.received.append(signal.SIGINT), ExitCode.INTERRUPTED),
        (lambda world: world.signals.received.append(signal.SIGTERM), ExitCode.INTERRUPTED),
    ],
)
def test_stop_and_signals_preempt_trials_and_release_them(world: World, stop, code) -> None:
    world.study.budget = 3
    world.after(2, lambda: stop(world))
    assert world.run() is code
    assert world.attempts == [Outcome.RELEASED]
    assert (0, Command.PREEMPT) in world.pool.sent
    assert world.study.trials[0].epochs


@pytest.mark.parametrize(
    ("script", "waits", "received", "killed"),
    [
        pytest.param([Started(1, 0)], 3, [signal.SIGINT] * 2, [0], id="a second Ctrl-C waits for no epoch"),
        pytest.param([], 2, [signal.SIGINT], [0], id="trainer has not started"),
        pytest.param([Started(1, 0), TERMINATED], 2, [signal.SIGTERM], [], id="SIGTERM to all processes"),
    ],
)
def test_trial_without_a_checkpointed_end_is_released_at_a_shutdown(
    world: World, script: list[Event], waits: int, received: list[int], killed: list[int]
) -> None:
    world.pool.scripts = [events(*script)]
    world.signal(waits, *received)
    assert world.run() is ExitCode.INTERRUPTED
    assert (world.attempts, world.pool.killed) == ([Outcome.RELEASED], killed)


HANGS: list[Event] = []


@pytest.mark.parametrize("ending", [[KILLED], [CRASHED], HANGS], ids=["killed", "crashed", "hangs"])
@pytest.mark.parametrize("command", [Command.PRUNE, Command.PREEMPT])
def test_trainer_that_does_not_end_well_after_it_was_asked_to_end_costs_no_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, command: Command, ending: list[Event]
) -> None:
    """Code after its loop has ended the process, or blocks: the trial is decided, or resumes later."""
    monkeypatch.setattr(overdue, "ENDING_SECONDS", 0.05)
    world.pool.endings[command] = ending
    world.study.prunes = lambda number, epoch: command is Command.PRUNE and (number, epoch) == (0, 1)
    if command is Command.PREEMPT:
        world.signal(2, signal.SIGINT)
        hung_seconds = 0.05
    else:
        hung_seconds = 60.0
    world.run(hung_seconds=hung_seconds)
    first = world.study.trials[0]
    if command is Command.PRUNE:
        assert (world.attempts, first.outcome, first.value) == ([Outcome.PRUNED], Outcome.PRUNED, 1.0)
    else:
        assert (world.attempts, first.outcome) == ([Outcome.RELEASED], None)
    assert first.lost == 0


@pytest.mark.parametrize("command", [Command.PRUNE, Command.PREEMPT])
def test_trainer_that_goes_on_after_it_was_asked_to_end_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, command: Command
) -> None:
    """It is not silent: its threads or its code after the loop still report progress."""
    monkeypatch.setattr(overdue, "ENDING_SECONDS", 0.0)
    world.pool.endings[command] = [Ending(), *[Tick(2, 1.0, 0.0)] * 50, Finished(Outcome.COMPLETE)]
    world.study.prunes = lambda number, epoch: command is Command.PRUNE and (number, epoch) == (0, 1)
    if command is Command.PREEMPT:
        world.signal(2, signal.SIGINT)
    world.run()
    assert world.pool.killed == [0]
    assert world.attempts[0] is (Outcome.PRUNED if command is Command.PRUNE else Outcome.RELEASED)
    assert "has not ended 0 s after it was asked to: its process was killed" in caplog.messages


def test_runs_that_a_shutdown_ends_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Shutdown, "grace_seconds", 60.0)
    monkeypatch.setattr(Shutdown, "overdue", property(lambda shutdown: shutdown.begun))
    world.signal(2, signal.SIGINT)
    world.run()
    assert [
        message
        for message in caplog.messages
        if message.startswith("has not ended 60 s after it was asked to")
    ]
    assert world.attempts == [Outcome.RELEASED]


@pytest.mark.parametrize(
    ("error", "received"), [(ObjectiveBrokenError, signal.SIGTERM), (StorageUnreachableError, signal.SIGINT)]
)
def test_error_that_a_signal_explains_is_an_interruption(
    world: World, error: type[HpoError], received
) -> None:
    def fail() -> None:
        raise error("gone")

    world.after(2, fail)
    with pytest.raises(error):
        world.run()
    world.signals.received.append(received)
    world.pool, world.study.desired_state = FakePool(), "run"
    world.after(1, fail)
    assert world.run() is ExitCode.INTERRUPTED
    assert all(world.attempts)


def test_prefetched_trials_are_released_at_a_shutdown(world: World) -> None:
    world.study.budget = 4
    world.signal(5, signal.SIGTERM)
    world.prefetching_agent().run()
    assert world.attempts == [Outcome.RELEASED] * 2
    assert len(world.pool.starts) == 1


def test_trials_of_a_process_that_is_to_be_replaced_end_after_their_epoch_and_resume(world: World) -> None:
    world.pool.scripts = [events(Started(1, 0))]

    def retire() -> None:
        # The next attempt has another process.
        world.pool.lanes.retiring = frozenset({0} if len(world.pool.starts) == 1 else ())

    world.pool.on_wait = retire
    assert world.run() is ExitCode.DONE
    assert world.pool.sent.count((0, Command.PREEMPT)) == 1
    assert world.attempts == [Outcome.RELEASED, Outcome.COMPLETE]
    assert world.outcomes == [Outcome.COMPLETE]
