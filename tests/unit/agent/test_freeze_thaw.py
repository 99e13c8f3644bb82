"""Freeze-thaw in the loop of an agent: trials pause at rungs, go on later, and end as pruned at the study's end."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.terminal.log import TerminalFormatter
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Command, Epoch, EpochRecord, Finished, Start, Started
from hpo.trainer.testing import FakePool
from tests.specs import spec
from tests.unit.agent.world import KILLED, World

pytestmark = pytest.mark.usefixtures("thirds")

EPOCHS = 9
"""Rungs after epochs 1 and 3."""


class Frozen(World):
    """An agent of a study with freeze-thaw, whose trainers resume after the epochs that the store has."""

    losses: tuple[float, ...] = ()
    """Loss of each trial in all its epochs, by number."""

    def __init__(self, folder: Path, losses: tuple[float, ...], slots: int = 1, **options: object) -> None:
        super().__init__(folder)
        self.losses = losses
        self.study.spec = spec(pruner="freeze-thaw", epochs=EPOCHS, **options)
        self.study.budget = len(losses)
        self.store = FakeTrialStore(self.study)
        self.pool = FakePool(slots=slots, default=self.trained)

    def trained(self, start: Start) -> list[Event]:
        known = self.study.trials[start.number].epochs
        history = tuple(EpochRecord(epoch, metrics, 0.01) for epoch, metrics in known.items())
        metrics = {"loss": self.losses[start.number]}
        epochs = range(len(history) + 1, EPOCHS + 1)
        return [
            Started(1, len(history), history),
            *(Epoch(EpochRecord(epoch, metrics, 0.01)) for epoch in epochs),
            Finished(Outcome.COMPLETE),
        ]

    @property
    def epochs(self) -> list[int]:
        return [len(trial.epochs) for trial in self.study.trials]


@pytest.fixture
def frozen(tmp_path: Path) -> Frozen:
    return Frozen(tmp_path, (0.5, 0.3, 0.4, 0.6, 0.2, 0.7))


def test_trials_pause_at_rungs_and_the_best_go_on(frozen: Frozen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert frozen.run() is ExitCode.DONE
    # Of three, 0.3 goes on to epoch 3; of five, 0.2 does at once. At the end the best is trained.
    assert frozen.epochs == [1, 3, 1, 1, 9, 1]
    pruned = Outcome.PRUNED
    assert frozen.outcomes == [pruned, pruned, pruned, pruned, Outcome.COMPLETE, pruned]
    assert [trial.value for trial in frozen.study.trials] == list(frozen.losses)
    assert frozen.attempts.count(Outcome.RELEASED) == 7
    assert (0, Command.PREEMPT) in frozen.pool.sent
    [paused] = [record for record in caplog.records if record.message == "paused value=0.5000 epochs=1 x=1"]
    assert TerminalFormatter().format(paused) == "trial 0: paused 0.5000 after 1 epoch: x=1"
    assert frozen.store.refresh().counts.paused == 0
    assert [start.ahead for start in frozen.pool.starts] == [0] * len(frozen.pool.starts)


def test_larger_values_are_better_where_the_metric_is_maximized(tmp_path: Path) -> None:
    frozen = Frozen(tmp_path, (0.5, 0.3, 0.4), direction="maximize")
    frozen.run()
    assert frozen.epochs == [9, 1, 1]


def test_slots_share_the_rungs(tmp_path: Path) -> None:
    frozen = Frozen(tmp_path, tuple(number / 100 for number in range(9)), slots=4)
    frozen.run()
    assert frozen.study.trials[0].outcome is Outcome.COMPLETE
    assert len(frozen.outcomes) == 9
    assert Outcome.PRUNED in frozen.outcomes
    assert None not in frozen.outcomes


def test_study_that_stops_keeps_its_paused_trials(frozen: Frozen) -> None:
    frozen.pool.on_wait = lambda: setattr(
        frozen.study, "desired_state", "stop" if len(frozen.study.trials) > 2 else "run"
    )
    frozen.run()
    assert set(frozen.outcomes) == {None}
    assert [trial.paused for trial in frozen.study.trials[:2]] == [True, True]

    frozen.pool.on_wait = lambda: None
    frozen.study.desired_state = "run"
    frozen.store = FakeTrialStore(frozen.study)
    assert frozen.run() is ExitCode.DONE
    assert frozen.epochs == [1, 3, 1, 1, 9, 1]


def test_trainer_that_dies_after_its_trial_was_paused_loses_nothing(frozen: Frozen) -> None:
    frozen.study.spec = replace(frozen.study.spec, max_lost=1)
    frozen.pool.endings[Command.PREEMPT] = [KILLED]
    assert frozen.run() is ExitCode.DONE
    assert [trial.lost for trial in frozen.study.trials] == [0] * 6
    assert frozen.epochs == [1, 3, 1, 1, 9, 1]


def test_epochs_that_a_trainer_completes_after_the_pause_count(frozen: Frozen) -> None:
    """It waits for the answer to an epoch only for so long."""
    late = Epoch(EpochRecord(2, {"loss": 0.1}, 0.01))
    frozen.pool.endings[Command.PREEMPT] = [late, Finished(Outcome.PREEMPTED)]
    frozen.study.budget = 1
    frozen.losses = (0.5,)
    frozen.run()
    assert frozen.study.trials[0].epochs[2] == {"loss": 0.1}
    assert frozen.study.trials[0].outcome is Outcome.COMPLETE


def test_trial_whose_agent_died_at_a_rung_is_judged_when_it_resumes(frozen: Frozen) -> None:
    """The epoch was recorded, and the agent was killed before it judged it."""
    dead = FakeTrialStore(frozen.study)
    claim = dead.claim(0, "cpu")
    dead.sample(claim)  # type: ignore[arg-type]
    dead.record(1, 1, [EpochRecord(1, {"loss": 0.5}, 0.01)])
    dead.release(1)
    frozen.run()
    assert frozen.epochs == [1, 3, 1, 1, 9, 1]


def test_trial_that_diverges_at_a_rung_stays_paused(tmp_path: Path) -> None:
    frozen = Frozen(tmp_path, (float("nan"), 0.5, float("nan")))
    frozen.run()
    assert frozen.epochs == [1, 9, 1]
    assert frozen.outcomes == [Outcome.PRUNED, Outcome.COMPLETE, Outcome.PRUNED]
    assert [trial.value for trial in frozen.study.trials] == [None, 0.5, None]
