"""A model of learning curves decides in the stores of agents: which trials pause, go on and begin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpo.agent.rungs import rung_scores
from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.pruners import freeze_thaw_of
from hpo.trainer.messages import EpochRecord
from objectives.base import Params
from objectives.trial_value import Reported
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy
from tests.specs import spec

EPOCHS, TRIALS = 6, 9
SPACE = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "kind": CategoricalDistribution(["a", "b"]),
}
SPEC = spec(
    SPACE,
    metric="val_accuracy",
    direction="maximize",
    pruner="freeze-thaw",
    sampler="curves",
    curve_model=True,
    epochs=EPOCHS,
    startup=4,
    seed=1,
)


def accuracy(params: Params, epoch: int) -> float:
    distance = abs(math.log10(params["rate"]) + 2) + 0.3 * (params["kind"] == "b")
    # The best are slow at first.
    return 0.9 * math.exp(-distance / 2) * (epoch / EPOCHS) ** math.exp(-distance)


@dataclass
class Slots:
    """Slots that train a study's trials in turn, an epoch at a time."""

    store: TrialStore
    held: dict[int, tuple[Claim, int, Params, int]] = field(default_factory=dict)
    """Claim, trial_id, parameters and completed epochs of the trial in each slot."""
    log: list[tuple[int, int]] = field(default_factory=list)
    """Trial number and epoch, in the order in which they were trained."""
    trained: dict[int, int] = field(default_factory=dict)

    def run(self, slots: int = 1, most: int | None = None) -> bool:
        """Train until the study is done or `most` epochs are; return whether it is done."""
        while True:
            done = False
            for slot in range(slots):
                if slot not in self.held:
                    found = self.store.claim(slot, "cpu:0")
                    if isinstance(found, NoWork):
                        done = found is NoWork.DONE
                        continue
                    trial_id, _, params = self.store.sample(found)
                    self.store.begin(found.attempt_id, 1, 0)
                    self.held[slot] = found, trial_id, params, self.trained.get(trial_id, 0)
            if done and not self.held:
                return True
            for slot in list(self.held):
                self.train(slot)
                if most is not None and len(self.log) >= most:
                    return False

    def train(self, slot: int) -> None:
        claim, trial_id, params, epoch = self.held[slot]
        epoch += 1
        self.held[slot] = claim, trial_id, params, epoch
        self.trained[trial_id] = epoch
        record = EpochRecord(epoch, {"val_accuracy": accuracy(params, epoch)}, 0.1)
        self.store.record(claim.attempt_id, trial_id, [record])
        self.log.append((claim.ordinal, epoch))
        if epoch == EPOCHS:
            self.store.settle(claim.attempt_id, Outcome.COMPLETE, accuracy(params, epoch))
            del self.held[slot]
            return
        rule = freeze_thaw_of(SPEC)
        assert rule is not None
        reports = [Reported(accuracy(params, step), step, step) for step in range(1, epoch + 1)]
        if self.store.judgement.pauses(claim.attempt_id, rung_scores(rule.rungs, reports, epoch, SPEC)):
            self.store.release(claim.attempt_id)
            del self.held[slot]


def test_study_trains_the_promising_and_ends_with_every_trial(database: Database) -> None:
    study = StoredStudy(database, SPEC, TRIALS)
    slots = Slots(study.agent())
    assert slots.run(slots=3)
    rows = study.execute("SELECT outcome, epochs, params FROM hpo.trials ORDER BY value DESC").all()
    assert len(rows) == TRIALS
    assert {row.outcome for row in rows} == {"complete", "pruned"}
    complete = [row for row in rows if row.outcome == "complete"]
    assert 3 <= len(complete) < TRIALS
    # Nothing that looked better was left.
    assert rows[0].outcome == "complete"
    assert len(slots.log) == sum(row.epochs for row in rows)
    # Some have paused before they went on.
    assert study.scalar("SELECT count(*) FROM hpo.attempts") > TRIALS


def test_seed_repeats_a_study_that_is_interrupted(database: Database) -> None:
    study = StoredStudy(database, SPEC, TRIALS)
    undisturbed = Slots(study.agent())
    undisturbed.run()
    study.execute("TRUNCATE hpo.studies, public.studies CASCADE")
    study = StoredStudy(database, SPEC, TRIALS)
    slots = Slots(study.agent())
    slots.run(most=15)
    for claim, *_ in slots.held.values():
        slots.store.release(claim.attempt_id)
    again = Slots(study.agent(), log=slots.log, trained=slots.trained)
    again.run()
    assert again.log == undisturbed.log


def test_study_goes_on_without_a_model_that_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hpo.search.curve_model.scheduler.CurveModel", lambda *_: 1 / 0)
    study = StoredStudy(database, replace(SPEC, startup=1), 7)
    assert Slots(study.agent()).run()
    outcomes = study.execute("SELECT outcome, count(*) FROM hpo.trials GROUP BY outcome ORDER BY outcome")
    assert [tuple(row) for row in outcomes] == [("complete", 3), ("pruned", 4)]
    failed = "the model of curves failed (ZeroDivisionError: division by zero): trials go on without it"
    assert [text for text in caplog.messages if "failed" in text] == [failed]
