"""Rows of a study, inserted by hand as agents and retrains write them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from sqlalchemy import Table, insert, update

from hpo import formatting
from hpo.analysis.statistics import summarize
from hpo.search.spec import StudySpec
from storage import retrains
from storage.engine import Database
from storage.figures import FIGURE
from storage.tables import agents, attempts, epochs, rungs, studies, trials
from tests.specs import spec as make_spec

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}
CONFUSION = [[8, 2], [1, 9]]


def ago(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)


class StudyRows:
    """A study, in Optuna's tables and in ours; all times are seconds ago."""

    def __init__(
        self,
        database: Database,
        name: str = "demo",
        *,
        budget: int = 10,
        direction: str = "maximize",
        spec: StudySpec | None = None,
    ) -> None:
        self.database, self.name, self.count = database, name, 0
        options = {"objective": "digits-cnn", "metric": "val_accuracy", "direction": direction, "epochs": 5}
        spec = spec or make_spec(SPACE, **options, sampler="tpe", pruner="median")
        self.study = optuna.create_study(study_name=name, storage=database.optuna, direction=spec.direction)
        self.study_id: int = self.study._study_id
        row = {"study_id": self.study_id, "name": name, "spec": spec.to_json(), "budget": budget}
        self._insert(studies, **row)

    def set(self, **values: Any) -> None:
        change = update(studies).where(studies.c.study_id == self.study_id).values(**values)
        self.database.transaction(lambda connection: connection.execute(change))

    def agent(
        self,
        *,
        started: float = 100.0,
        seen: float = 1.0,
        ended: float | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> int:
        times = {"started_at": ago(started), "seen_at": ago(seen), "ended_at": ago(ended)}
        process = {"host": "here", "pid": 42, "process": "boot:42:1", "slots": 2}
        return self._insert(
            agents, study_id=self.study_id, ordinal=0, versions=dict(versions or {}), **process, **times
        )

    def trial(
        self, outcome: str | None = None, value: float | None = None, *, completed: int = 0, **more: Any
    ) -> int:
        """Insert a trial with the next number and return its reservation_id."""
        values = {
            "number": self.count,
            "trial_id": 1_000_000 * self.study_id + self.count,
            "params": {"learning_rate": 0.01 + self.count / 1000},
            "outcome": outcome,
            "value": value,
            "epochs": completed,
            **more,
        }
        self.count += 1
        return self._insert(trials, study_id=self.study_id, ordinal=self.count, seed=self.count, **values)

    def change_trial(self, reservation_id: int, **values: Any) -> None:
        change = update(trials).where(trials.c.reservation_id == reservation_id).values(**values)
        self.database.transaction(lambda connection: connection.execute(change))

    def measured(self, value: float, outcome: str = "complete", **figures: float) -> int:
        """Insert a trial with figures, in Optuna's tables too, and return its reservation_id."""
        params = {"learning_rate": 0.01 + self.count / 1000}
        attributes = {f"{FIGURE}{name}": figure for name, figure in figures.items()}
        self.study.add_trial(
            create_trial(value=value, params=params, distributions=SPACE, user_attrs=attributes)
        )
        trial_id = self.study.get_trials(deepcopy=False)[-1]._trial_id
        return self.trial(outcome, value, completed=5, params=params, trial_id=trial_id)

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
        times = {"started_at": ago(started), "ended_at": ago(ended), "lease_until": ago(-lease)}
        place = {"host": "here", "slot": slot, "device": device or f"cpu:{slot}"}
        ids = {"reservation_id": reservation_id, "agent_id": agent_id}
        return self._insert(attempts, epochs=completed, outcome=outcome, **ids, **place, **times)

    def epoch(self, reservation_id: int, attempt_id: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        ids = {"reservation_id": reservation_id, "attempt_id": attempt_id, "epoch": epoch}
        self._insert(epochs, metrics=dict(metrics), seconds=1.0, **ids)

    def rung(self, reservation_id: int, epoch: int, score: float) -> None:
        self._insert(rungs, reservation_id=reservation_id, epoch=epoch, study_id=self.study_id, score=score)

    def _insert(self, table: Table, **values: Any) -> int:
        """Insert a row and return the first column of its primary key."""
        statement = insert(table).values(**values).returning(*table.primary_key)
        found: int = self.database.transaction(lambda connection: connection.execute(statement).one()[0])
        return found


def add_retrain(
    rows: StudyRows,
    accuracies: Sequence[float],
    *,
    params: dict[str, Any] | None = None,
    classes: Sequence[str] = ("cat", "dog"),
    config: Mapping[str, Any] | None = None,
    finished: bool = True,
    **more: Any,
) -> int:
    """Insert a retrain with one final run for each accuracy; `config` overrides the default one."""
    seeds = [1_000_000 + index for index in range(len(accuracies))]
    default = {
        "objective": "digits-cnn",
        "trial": 0,
        "epochs": 2,
        "params": params or {"learning_rate": 0.01},
    }
    sizes = {"n_test": 20, "n_train": 100, "parameters": 1234}
    tested = {"seconds": 2.0, "confusion": CONFUSION, "classes": list(classes), **sizes}
    history = [
        {"seed": seed, "epoch": epoch, "seconds": 1.0, "metrics": {"loss": math.inf, "accuracy": epoch / 2}}
        for seed in seeds
        for epoch in (1, 2)
    ]
    metrics = {
        "study": rows.name,
        "epochs": 2,
        "summary": {"test_accuracy": summarize(accuracies).to_json()},
        "runs": [
            {"seed": seed, "test_accuracy": accuracy, **tested}
            for seed, accuracy in zip(seeds, accuracies, strict=True)
        ],
        "hardware": {"processor": "a processor", "cores": 2, "memory_gib": 4.0, "gpus": []},
        "versions": {"keras": "3.15"},
        "detail": {"history": history},
        **more,
    }

    def write(connection: Any) -> int:
        config_of_runs = {**default, **(config or {})}
        retrain_id = retrains.new_id(connection)
        retrains.begin(connection, retrain_id, rows.study_id, config_of_runs, seeds)
        retrains.open_test_set(connection, retrain_id)
        if finished:
            retrains.finish(connection, retrain_id, formatting.json_safe(metrics))
        return retrain_id

    return rows.database.transaction(write)


def finished_study(database: Database) -> StudyRows:
    """Insert a study with two complete trials, the first of which was retrained."""
    rows = StudyRows(database)
    agent = rows.agent(ended=1.0)
    for value in (0.9, 0.8):
        params, reports = {"learning_rate": 0.01}, {1: value / 2, 2: value}
        rows.study.add_trial(
            create_trial(value=value, params=params, distributions=SPACE, intermediate_values=reports)
        )
        trial_id = rows.study.get_trials()[-1]._trial_id
        reservation_id = rows.trial("complete", value, completed=2, trial_id=trial_id)
        attempt = rows.attempt(reservation_id, agent, ended=1.0, completed=2, outcome="complete")
        for epoch, accuracy in reports.items():
            rows.epoch(reservation_id, attempt, epoch, {"val_accuracy": accuracy, "loss": 1 / epoch})
    add_retrain(rows, [0.9, 0.91])
    return rows
