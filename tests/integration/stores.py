"""A study of few trials on PostgreSQL and the stores of its agents."""

from __future__ import annotations

import json
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import text

from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from hpo.trainer.messages import EpochRecord
from objectives.device import Device
from storage.claiming.claims import Claim
from storage.connection.retry import Retry
from storage.engine import Database
from storage.leases import LeaseTimes
from storage.studies import set_desired_state
from tests.integration.rows import StudyRows
from tests.specs import spec

SPEC = spec()


class StoredStudy:
    """A study whose agents are stores."""

    def __init__(self, database: Database, spec: StudySpec = SPEC, budget: int = 1) -> None:
        self.database, self.spec = database, spec
        self.optuna = StudyRows(database, "s", budget=budget, spec=spec).study

    def agent(self, lease_seconds: float = 120.0, grace_renewals: float = 0.0) -> TrialStore:
        """Let an agent join; by default it ends expired leases at once."""
        times, retry = LeaseTimes(lease_seconds, grace_renewals), Retry(5.0, first_delay=0.01)
        return TrialStore(self.database, self.optuna._study_id, "s", self.spec, [Device()], retry, times)

    def expire_leases(self, seconds: float | None = None) -> None:
        """Let all leases expire, or end `seconds` earlier as if the database's clock were set ahead."""
        until = (
            "clock_timestamp() - interval '1 s'"
            if seconds is None
            else f"lease_until - {seconds} * interval '1 s'"
        )
        self.execute(f"UPDATE hpo.attempts SET lease_until = {until} WHERE ended_at IS NULL")

    def finish_elsewhere(self, agent: TrialStore) -> None:
        """Let the only trial's lease expire and `agent` take it over and train it to its end."""
        self.expire_leases()
        agent.reap_expired()
        train(agent, claimed(agent))

    def set_state(self, state: str) -> None:
        self.database.transaction(lambda c: set_desired_state(c, self.optuna._study_id, state))

    def change(self, spec: StudySpec, budget: int) -> None:
        """Store another spec and budget, which agents that join later get."""
        self.spec = spec
        values = {"spec": json.dumps(spec.to_json()), "n": budget}
        change = text("UPDATE hpo.studies SET spec = CAST(:spec AS json), budget = :n")
        self.database.transaction(lambda c: c.execute(change, values))

    def execute(self, sql: str) -> Any:
        return self.database.transaction(lambda c: c.execute(text(sql)))

    def scalar(self, sql: str) -> Any:
        return self.database.transaction(lambda c: c.execute(text(sql)).scalar_one())

    @property
    def states(self) -> list[TrialState]:
        """States of the trials in Optuna."""
        return [trial.state for trial in self.optuna.get_trials()]


def claimed(store: TrialStore, slot: int = 0, device: str = "cpu:0") -> Claim:
    claim = store.claim(slot, device)
    assert isinstance(claim, Claim)
    return claim


def begun(store: TrialStore, slot: int = 0) -> tuple[Claim, int]:
    """Begin a trial in a slot; return its claim and trial_id."""
    claim = claimed(store, slot)
    trial_id, _, _ = store.sample(claim)
    store.begin(claim.attempt_id, 1, 0)
    return claim, trial_id


def report(
    store: TrialStore, claim: Claim, trial_id: int, loss: float = 0.5, epoch: int = 1
) -> dict[int, float]:
    """Record an epoch and return the valid losses."""
    found = store.record(claim.attempt_id, trial_id, [EpochRecord(epoch, {"loss": loss}, 0.1)])
    return {one.epoch: one.value for one in found}


def train(store: TrialStore, claim: Claim) -> None:
    """Train a claimed trial to its end."""
    trial_id, _, _ = store.sample(claim)
    store.begin(claim.attempt_id, 1, 0)
    for epoch in (1, 2):
        report(store, claim, trial_id, epoch=epoch)
    store.settle(claim.attempt_id, Outcome.COMPLETE, 0.5)
