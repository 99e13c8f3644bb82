"""Rows of a study, inserted by hand as agents write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from sqlalchemy import insert, update

from storage.engine import Database
from storage.tables import agents, attempts, epochs, studies, trials
from tests.specs import spec

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


class StudyRows:
    """A study, in Optuna's tables and in ours."""

    def __init__(
        self, database: Database, name: str = "demo", *, budget: int = 10, direction: str = "maximize"
    ) -> None:
        self.database, self.name, self.count = database, name, 0
        options = {"objective": "digits-cnn", "metric": "val_accuracy", "direction": direction, "epochs": 5}
        stored = spec(SPACE, **options, sampler="tpe", pruner="median")
        self.study = optuna.create_study(study_name=name, storage=database.optuna, direction=direction)
        self.study_id: int = self.study._study_id
        self._execute(
            insert(studies).values(study_id=self.study_id, name=name, spec=stored.to_json(), budget=budget)
        )

    def set(self, **values: Any) -> None:
        self._execute(update(studies).where(studies.c.study_id == self.study_id).values(**values))

    def agent(
        self,
        *,
        started: float = 100.0,
        seen: float = 1.0,
        ended: float | None = None,
        slots: int = 2,
        versions: Mapping[str, str] | None = None,
    ) -> int:
        """Insert an agent; times are seconds ago."""
        return self._insert(
            insert(agents)
            .values(
                study_id=self.study_id,
                ordinal=0,
                host="here",
                pid=42,
                process="boot:42:1",
                slots=slots,
                versions=dict(versions or {}),
                started_at=ago(started),
                seen_at=ago(seen),
                ended_at=None if ended is None else ago(ended),
            )
            .returning(agents.c.agent_id)
        )

    def trial(
        self, outcome: str | None = None, value: float | None = None, *, completed: int = 0, **more: Any
    ) -> int:
        """Insert a trial with the next number and return its reservation_id."""
        values = {
            "number": self.count,
            "trial_id": 1_000_000 * self.study_id + self.count,
            "params": {"learning_rate": 0.01 + self.count / 1000},
            **more,
        }
        self.count += 1
        return self._insert(
            insert(trials)
            .values(
                study_id=self.study_id,
                ordinal=self.count,
                seed=self.count,
                outcome=outcome,
                value=value,
                epochs=completed,
                **values,
            )
            .returning(trials.c.reservation_id)
        )

    def attempt(
        self,
        reservation_id: int,
        agent_id: int,
        *,
        started: float = 60.0,
        ended: float | None = None,
        lease: float = 60.0,
        completed: int = 0,
        slot: int = 0,
        outcome: str | None = None,
        device: str | None = None,
    ) -> int:
        return self._insert(
            insert(attempts)
            .values(
                reservation_id=reservation_id,
                agent_id=agent_id,
                slot=slot,
                device=device or f"cpu:{slot}",
                host="here",
                epochs=completed,
                outcome=outcome,
                started_at=ago(started),
                lease_until=ago(-lease),
                ended_at=None if ended is None else ago(ended),
            )
            .returning(attempts.c.attempt_id)
        )

    def epoch(self, reservation_id: int, attempt_id: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._execute(
            insert(epochs).values(
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                epoch=epoch,
                metrics=dict(metrics),
                seconds=1.0,
            )
        )

    def _execute(self, statement: Any) -> None:
        self.database.transaction(lambda connection: connection.execute(statement))

    def _insert(self, statement: Any) -> int:
        return self.database.transaction(lambda connection: connection.execute(statement).scalar_one())


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)
