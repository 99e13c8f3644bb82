"""The loop of an agent on a pool and a store without processes or a database."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
from sqlalchemy.exc import DBAPIError

from hpo.agent import agent as agent_module
from hpo.agent.agent import Agent
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.testing import FakeStudy, FakeTrialStore
from hpo.errors import (
    DiskFullError,
    HpoError,
    ObjectiveBrokenError,
    ObjectiveFailedError,
    StorageUnreachableError,
)
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode, Shutdown
from hpo.process.signals import SignalHandler
from hpo.terminal.progress import TrialEnd, View
from hpo.trainer import supervisor as supervisor_module
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.exits import Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Command, Ending, Epoch, EpochRecord, Finished, Start, Started, Tick
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.testing import FakePool, trained
from storage.attempts import NEXT
from storage.claims import Claim
from tests.specs import spec

KILLED = TrainerExited("its process was ended by SIGKILL", -signal.SIGKILL)
CRASHED = TrainerExited("its process was ended by SIGSEGV", -signal.SIGSEGV)
STARVED = TrainerExited("the kernel killed its process", -signal.SIGKILL, out_of_memory=True)


class FakeProgress:
    def __init__(self) -> None:
        self.ended: list[TrialEnd] = []
        self.views: list[View] = []

    def update(self, view: View) -> None:
        self.views.append(view)

    def trial_ended(self, trial: TrialEnd, _counts: object) -> None:
        self.ended.append(trial)


class FakeRenewal:
    lost: frozenset[int] = frozenset()
    last_error: str | None = None

    def heartbeat(self) -> None:
        pass

    def fenced(self) -> frozenset[int]:
        return self.lost


class World:
    """An agent with all that it deals with."""

    def __init__(self, folder: Path, budget: int = 1, slots: int = 1) -> None:
        self.study = FakeStudy(spec=spec(pruner="median"), budget=budget)
        self.pool = FakePool(slots=slots)
        self.signals = SignalHandler()
        self.store = FakeTrialStore(self.study)
        self.progress, self.renewal = FakeProgress(), FakeRenewal()
        self.folder = folder

    def agent(
        self, hung_seconds: float = 60.0, memory_bytes: int | None = None, timeout: float | None = None
    ) -> Agent:
        self.supervisor = Supervisor(
            self.pool, self.signals, hung_seconds=hung_seconds, memory_bytes=memory_bytes
        )
        cleanup = Cleanup("s", self.store, self.folder / "checkpoints", self.folder / "logs", None)
        self.table = AttemptTable(self.study.spec, self.store, self.supervisor, cleanup)
        return Agent(self.store, self.supervisor, self.table, self.renewal, cleanup, self.progress, timeout)

    def run(self, **options: float) -> ExitCode:
        return self.agent(**options).run()

    def after(self, waits: int, act: Callable[[], object]) -> None:
        """Call `act` once, when the agent listens for that many times."""
        count = 0

        def on_wait() -> None:
            nonlocal count
            count += 1
            if count == waits:
                act()

        self.pool.on_wait = on_wait

    def signal(self, waits: int, *numbers: int) -> None:
        self.after(waits, lambda: self.signals.received.extend(numbers))

    def expire(self) -> None:
        """Let another agent end all attempts."""
        self.study.expire_leases()
        FakeTrialStore(self.study).reap_expired()

    def prefetching_agent(self) -> Agent:
        """Return an agent that prefetches: its first trial leaves it a turn without an event."""
        agent = self.agent()
        self.table.prefetcher.record_claim(1.0)
        self.table.prefetcher.record_trial(1.0)
        self.pool.scripts = [events(Started(1, 0))]
        return agent

    def finish_first(self) -> None:
        self.pool._trainers[0].events = trained(self.pool.starts[0])[1:]

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [trial.outcome for trial in self.study.trials]

    @property
    def attempts(self) -> list[Outcome | None]:
        return [attempt.outcome for attempt in self.study.attempts]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(agent_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor_module, "SPAWN_RETRY_SECONDS", 0.0)
    monkeypatch.setattr("hpo.agent.attempts.CLAIM_RETRY_SECONDS", 0.0)
    return World(tmp_path)


def events(*of: Event) -> Callable[[Start], list[Event]]:
    return lambda _start: list(of)


def epoch(number: int, loss: float = 0.5) -> Epoch:
    return Epoch(EpochRecord(number, {"loss": loss}, 0.01))


def test_agent_trains_until_the_budget_is_spent(world: World) -> None:
    world.study.budget, world.pool = 5, FakePool(slots=2, versions={"data": "digits: 9 images"})
    assert world.run() is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 5
    assert [end.value for end in world.progress.ended] == [0.5] * 5
    assert all(attempt is not None for attempt in world.attempts)
    assert world.progress.views[-1].counts.complete == 5
    assert world.study.data == "digits: 9 images"


@pytest.mark.parametrize("method", ["begin", "record", "should_prune"])
def test_trial_whose_event_cannot_be_handled_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    handle = getattr(world.store, method)

    def fail_first(attempt_id: int, *args: object) -> object:
        if attempt_id == 1:
            raise OverflowError("too large")
        return handle(attempt_id, *args)

    monkeypatch.setattr(world.store, method, fail_first)
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


def test_pruner_ends_a_trial_after_its_epoch(world: World) -> None:
    world.study.prunes = lambda number, epoch: number == 0 and epoch == 1
    world.study.budget = 2
    world.run()
    assert world.outcomes == [Outcome.PRUNED, Outcome.COMPLETE]
    assert (0, Command.PRUNE) in world.pool.sent
    assert world.study.trials[0].value == 1.0


@pytest.mark.parametrize(("pruner", "waits"), [("none", False), ("median", True)])
def test_trainer_waits_for_each_answer_where_a_pruner_judges(world: World, pruner: str, waits: bool) -> None:
    world.study.spec = spec(pruner=pruner)
    world.store = FakeTrialStore(world.study)
    world.run()
    assert [start.ahead == 0 for start in world.pool.starts] == [waits]


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


TERMINATED = TrainerExited("its process was ended by SIGTERM", -signal.SIGTERM)


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


def test_timeout_stops_the_agent_with_exit_code_zero(world: World) -> None:
    world.study.budget = 10**6
    assert world.run(timeout=0.05) is ExitCode.DONE
    assert world.study.desired_state == "run"
    assert world.attempts[-1] in (Outcome.RELEASED, Outcome.COMPLETE)


def test_timeout_counts_from_the_end_of_loading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.pool.ready = False
    world.study.budget = 3

    def load() -> None:
        world.pool.ready, skipped[0] = True, 100.0

    world.after(2, load)
    assert world.run(timeout=60.0) is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 3


def test_paused_study_holds_its_trials_until_it_is_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    steps = {2: "pause", 6: "run"}
    count = 0

    def on_wait() -> None:
        nonlocal count
        count += 1
        world.study.desired_state = steps.get(count, world.study.desired_state)

        if count == 5:
            held.extend(attempt.held for attempt in world.study.attempts)
            skipped[0] = 7200.0

    held: list[bool] = []
    world.pool.on_wait = on_wait
    assert world.run(hung_seconds=3.0) is ExitCode.DONE
    assert held == [True]
    assert not world.study.attempts[0].held
    assert world.progress.ended[0].seconds < 3600
    commands = [message for _, message in world.pool.sent if isinstance(message, Command)]
    assert commands == [Command.PAUSE, Command.RESUME]
    assert world.attempts == [Outcome.COMPLETE]


def test_first_trial_and_each_better_one_are_a_new_best(world: World) -> None:
    world.study.budget = 4
    world.pool.scripts = [lambda start, loss=loss: trained(start, loss=loss) for loss in (0.5, 0.7, 0.3, 0.3)]
    world.run()
    assert [end.new_best for end in world.progress.ended] == [True, False, True, False]


LOSSES = (0.5, 0.25, 0.75)


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.PRUNED])
@pytest.mark.parametrize(("rule", "value"), [("last", 0.75), ("best", 0.25)])
def test_value_of_a_trial_is_its_last_or_best_one(
    world: World, rule: str, value: float, outcome: Outcome
) -> None:
    world.study.spec.__dict__.update(value=rule, epochs=9)
    reports = [epoch(number, loss) for number, loss in enumerate(LOSSES, 1)]
    world.pool.scripts = [events(Started(1, 0), *reports, Finished(outcome))]
    world.run()
    assert (world.outcomes, world.study.trials[0].value) == ([outcome], value)


def test_best_value_of_an_earlier_attempt_counts(world: World) -> None:
    world.study.spec.__dict__.update(value="best", epochs=3)
    history = tuple(epoch(number, loss).record for number, loss in enumerate(LOSSES[:2], 1))
    world.pool.scripts = [
        events(Started(1, 0), *map(Epoch, history), KILLED),
        events(Started(2, 2, history), epoch(3, 0.75), Finished(Outcome.COMPLETE)),
    ]
    world.run()
    assert world.study.trials[0].value == 0.25


def test_best_value_does_not_hide_a_non_finite_end(world: World) -> None:
    world.study.spec.__dict__.update(value="best")
    world.pool.scripts = [
        events(Started(1, 0), epoch(1, 0.5), epoch(2, float("nan")), Finished(Outcome.COMPLETE))
    ]
    world.run()
    assert (world.outcomes, world.study.trials[0].value) == ([Outcome.DIVERGED], None)


def test_lost_trial_resumes_and_its_epochs_are_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "hpo")
    first = EpochRecord(1, {"loss": 0.7}, 0.01)
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


def ticking(_: Start) -> list[Event]:
    return [Started(1, 0), epoch(1, 0.25), *(Tick(2, 0.5, 0.0) for _ in range(10**4))]


def test_trial_that_ticks_for_ever_times_out_with_its_last_value(world: World, monkeypatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0)
    world.study.budget = 2
    world.pool.scripts = [ticking]
    waits = 0

    def on_wait() -> None:
        nonlocal waits
        waits += 1
        if waits >= 6:
            # Not at once: an agent that was stopped so long would not count it.
            skipped[0] += 4.0
        if waits == 6:
            # A real trainer ticks once a second: most listens read nothing.
            world.pool._trainers[0].paused = True

    world.pool.on_wait = on_wait
    assert world.run(hung_seconds=10**6) is ExitCode.DONE
    assert world.outcomes == [Outcome.TIMED_OUT, Outcome.COMPLETE]
    assert world.pool.killed == [0]
    first = world.study.trials[0]
    assert (first.value, first.error) == (0.25, "it trained for more than 10m00s (--trial-timeout)")


def test_epochs_of_earlier_attempts_count_towards_the_time_limit(world: World) -> None:
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0, epochs=3)
    history = (EpochRecord(1, {"loss": 0.5}, 500.0),)
    second = Epoch(EpochRecord(2, {"loss": 0.4}, 100.0))
    world.pool.scripts = [events(Started(1, 1, history), second, epoch(3), Finished(Outcome.COMPLETE))]
    world.run()
    assert (world.outcomes, world.pool.killed) == ([Outcome.TIMED_OUT], [0])
    assert world.study.trials[0].value == 0.4


def test_trial_that_finished_while_the_agent_waited_is_not_timed_out(world: World, monkeypatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0)
    # The database was unreachable for longer than the limit, and the trainer went on.
    world.after(2, lambda: skipped.__setitem__(0, 10**4))
    world.run(hung_seconds=10**6)
    assert world.outcomes == [Outcome.COMPLETE]


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


HANGS: list[Event] = []


@pytest.mark.parametrize("ending", [[KILLED], [CRASHED], HANGS], ids=["killed", "crashed", "hangs"])
@pytest.mark.parametrize("command", [Command.PRUNE, Command.PREEMPT])
def test_trainer_that_does_not_end_well_after_it_was_asked_to_end_costs_no_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, command: Command, ending: list[Event]
) -> None:
    """Code after its loop has ended the process, or blocks: the trial is decided, or resumes later."""
    monkeypatch.setattr(supervisor_module, "ENDING_SECONDS", 0.05)
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
    monkeypatch.setattr(supervisor_module, "ENDING_SECONDS", 0.0)
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


def test_trial_lost_too_often_fails(world: World) -> None:
    world.study.spec.__dict__["max_failed"] = 1
    world.pool.default = events(Started(1, 0), KILLED)
    with pytest.raises(ObjectiveFailedError):
        world.run()
    assert world.attempts == [Outcome.LOST] * world.study.spec.max_lost
    assert world.outcomes == [Outcome.LOST]


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


def test_short_trials_are_prefetched_and_fill_slots_at_once(world: World) -> None:
    world.study.budget = 6
    world.after(4, world.finish_first)
    assert world.prefetching_agent().run() is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 6
    assert all(attempt.device != NEXT for attempt in world.study.attempts)


def test_prefetched_trial_taken_by_an_idle_agent_is_not_trained_twice(world: World) -> None:
    world.study.budget = 2
    agent, other = world.prefetching_agent(), FakeTrialStore(world.study)
    taken: list[Claim] = []

    def take() -> None:
        claim = other.claim(0, "cpu")
        assert isinstance(claim, Claim)
        taken.append(claim)
        other.settle(claim.attempt_id, Outcome.COMPLETE, 0.1)
        world.finish_first()

    world.after(4, take)
    assert agent.run() is ExitCode.DONE
    assert len(taken) == 1
    assert world.outcomes == [Outcome.COMPLETE] * 2
    assert world.study.trials[1].value == 0.1


def test_prefetched_trials_are_released_at_a_shutdown(world: World) -> None:
    world.study.budget = 4
    world.signal(5, signal.SIGTERM)
    world.prefetching_agent().run()
    assert world.attempts == [Outcome.RELEASED] * 2
    assert len(world.pool.starts) == 1


def test_log_of_an_attempt_is_uploaded_at_its_end(world: World) -> None:
    def printing(start: Start) -> list[Event]:
        Path(start.log).parent.mkdir(parents=True, exist_ok=True)
        Path(start.log).write_text("printed")
        return trained(start)

    world.pool.scripts = [printing]
    world.run()
    assert world.study.logs == {1: "printed"}
    assert list((world.folder / "logs").iterdir()) == []
