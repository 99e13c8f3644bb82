"""The probe on a pool without processes, by a clock of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from hpo.errors import InvalidParameterError, ObjectiveFailedError
from hpo.options.hosts import AgentOptions
from hpo.outcomes import Outcome
from hpo.planning import probe, probe_run
from hpo.planning.probe import Probe, ProbeError
from hpo.planning.probe_run import Measurement
from hpo.process.signals import SignalHandler
from hpo.trainer.ends.exits import Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Command, Epoch, EpochRecord, Finished, Start, Started, Suggest, Tick
from hpo.trainer.testing import FakePool
from tests.specs import spec

DONE = Finished(Outcome.COMPLETE)


def epochs(count: int) -> list[Event]:
    return [Epoch(EpochRecord(number, {"loss": 1.0}, 2.0)) for number in range(1, count + 1)]


class SlowPool(FakePool):
    """A pool in which nothing happens while nobody waits."""

    def wait(self, timeout: float) -> list[tuple[int, Event]]:
        return super().wait(timeout) if timeout else []


class World:
    """A pool whose trainers report one event a second, after they took some time to start."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        script: Callable[[Start], Sequence[Event]],
        slots: int = 2,
        starts: Sequence[float] = (0.0,),
    ) -> None:
        """`starts` are the times before the first event of the first trainers, of the second ones and so on."""
        self.now, self.starts, self.folder, self.slots = 100.0, list(starts), folder, slots
        self.signals = SignalHandler()
        self.pool = SlowPool(slots=slots, default=script)
        self.pool.on_wait = self.pass_second
        self._seen = 0
        for module in (probe, probe_run):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def pass_second(self) -> None:
        self.now += 1.0
        if len(self.pool.starts) > self._seen and self.starts:
            self._seen = len(self.pool.starts)
            self.now += self.starts.pop(0)

    def probe(self, seconds: float = 1000.0, **options: Any) -> Probe:
        folders = (self.folder / "plan-1", self.folder)
        return Probe(
            spec(**options),
            {"x": 0.5},
            "s",
            self.pool,
            self.signals,
            AgentOptions(),
            self.slots,
            folders,
            seconds,
        )  # type: ignore[arg-type]

    def run(self, seconds: float = 1000.0, **options: Any) -> Measurement:
        return self.probe(seconds, **options).run()


def test_all_slots_train_until_the_time_of_an_epoch_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(90), DONE])
    found = world.run(epochs=90)
    assert (found.epoch_seconds, found.measured_epochs, found.ended_after) == (1.0, 6, None)
    # The process starts in a second, and the first epoch begins then.
    assert found.start_seconds == 1.0
    assert [start.seed for start in world.pool.starts] == [0, 1]
    assert world.pool.busy == frozenset()
    assert list(tmp_path.iterdir()) == []


def test_long_start_is_measured_again_with_a_template_that_knows_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(9), DONE], starts=(20.0, 3.0))
    found = world.run(epochs=9)
    assert (found.epoch_seconds, found.start_seconds, found.measured_epochs) == (1.0, 4.0, 6)
    assert [command for _, command in world.pool.sent if isinstance(command, Command)] == [
        Command.PREEMPT
    ] * 2
    assert len(world.pool.starts) == 4


def test_trial_of_one_epoch_is_measured_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(1), DONE], starts=(7.0, 7.0))
    found = world.run(epochs=1)
    # The epoch reported that it took two seconds.
    assert (found.epoch_seconds, found.start_seconds, found.ended_after) == (2.0, 7.0, 1)


def test_epoch_that_is_too_long_is_extrapolated_from_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = [Tick(1, 0.0, 0.0), *(Tick(1, part / 400, 1.0) for part in range(4, 300))]
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *ticks], starts=(10.0,))
    found = world.run(seconds=60.0, epochs=5)
    assert (found.measured_epochs, found.trial_seconds) == (0, None)
    assert found.epoch_seconds == pytest.approx(400.0)
    assert found.start_seconds == pytest.approx(9.0)


def test_objective_that_decides_on_its_epochs_is_measured_by_whole_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(4), DONE], starts=(9.0, 2.0))
    found = world.run(epochs=None)
    assert found.trial_seconds == 8.0
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(400)])
    with pytest.raises(ProbeError, match=r"no trial has ended after 50.0s, and only .* longer --probe-time"):
        world.run(seconds=50.0, epochs=None)


def test_objective_without_progress_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0)])
    with pytest.raises(ProbeError, match=r"no epoch has ended after 50.0s.*: set a longer --probe-time"):
        world.run(seconds=50.0, epochs=5)
    assert world.pool.busy == frozenset()
    assert not (tmp_path / "plan-1").exists()


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        (
            Finished(Outcome.BUG, "KeyError: 'x'", "Traceback"),
            ObjectiveFailedError,
            "has failed with KeyError: 'x'",
        ),
        (
            Finished(Outcome.DIVERGED, "loss is nan"),
            ProbeError,
            r"ended as diverged after 2 epochs, with .*loss is nan",
        ),
        (
            Finished(Outcome.OUT_OF_MEMORY, "no memory"),
            ProbeError,
            r"with 2 slots busy \(.*use fewer --workers",
        ),
        (TrainerExited("killed", -9, True), ProbeError, r"ended as oom .*\(killed; see "),
        (TrainerExited("its process was ended by SIGSEGV", -11), ProbeError, "ended as lost after 2 epochs"),
    ],
)
def test_configuration_that_fails_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Event, error: type[Exception], message: str
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(2), end])
    with pytest.raises(error, match=message):
        world.run(epochs=5)
    assert world.pool.busy == frozenset()


def test_trainer_that_cannot_be_started_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainer.supervisor.SPAWN_RETRY_SECONDS", 0.0)
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(90), DONE])
    world.pool.scripts = [lambda _: [SpawnFailed("no room")]]
    found = world.run(epochs=90)
    assert (len(world.pool.starts), found.measured_epochs) == (3, 7)


def test_interrupted_probe_ends_at_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [Started(1, 0), *epochs(90), DONE])
    (tmp_path / "plan-1").mkdir()

    def interrupt() -> None:
        world.pass_second()
        world.signals.received.append(signal.SIGINT)

    world.pool.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.run(epochs=90)
    assert world.pool.busy == frozenset()
    assert not (tmp_path / "plan-1").exists()


def test_objective_gets_one_configuration_in_all_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, lambda _: [])
    begun = world.probe(epochs=None, open_space=True, narrowing=("y=2",))

    def ask(name: str, distribution: Any) -> Any:
        return begun.on_suggest(0, None, Suggest(name, distribution_to_json(distribution))).value  # type: ignore[arg-type]

    # A known value as far as its range has it, else a drawn one that stays.
    assert ask("x", FloatDistribution(0.0, 1.0)) == 0.5
    drawn = ask("z", FloatDistribution(0.0, 1.0))
    assert ask("z", FloatDistribution(0.0, 1.0)) == drawn
    assert 2.0 <= ask("x", FloatDistribution(2.0, 3.0)) <= 3.0
    assert ask("y", CategoricalDistribution([1, 2, 3])) == 2
    with pytest.raises(InvalidParameterError, match="y=2"):
        ask("y", CategoricalDistribution([7, 8]))
