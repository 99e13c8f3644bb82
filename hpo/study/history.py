"""Complete history of a study, read in one snapshot: trials, epochs, attempts, agents and retrains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Table, func, select

from hpo.outcomes import Outcome
from hpo.study.catalog import read_study
from hpo.study.definition.versions import CODE
from hpo.study.monitoring.status import read_status
from hpo.study.monitoring.study_status import StudyStatus
from hpo.study.notes import read_notes
from hpo.study.open_space import declares_epochs
from hpo.study.predicates import seconds_of_attempt
from hpo.study.results.front import front_of
from hpo.study.results.trials import TrialRow, added_rows, trial_rows_of
from objectives.trial_value import Reported, chosen, reported
from storage.attempts import read_metrics
from storage.connection.retry import Retry
from storage.retrains import RetrainRow, Source, retrains_of
from storage.studies import StoredStudy
from storage.tables import agents, attempts, epochs, trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from storage.engine import Database

NOT_RECORDED = "not recorded"
"""Digest of the code of attempts of versions that did not store it."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One epoch of a trial, as reported last."""

    number: int
    epoch: int
    metrics: Mapping[str, float]
    seconds: float
    attempt_id: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """One execution of a trial."""

    attempt_id: int
    number: int | None
    host: str
    device: str
    slot: int
    resumed_from: int | None
    epochs: int
    """Epochs that this attempt trained."""
    outcome: str | None
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    pid: int | None
    """PID of the trainer; None if no trainer started."""
    process: str
    """Identity of the agent: boot, PID namespace, PID and start time."""
    versions: Mapping[str, str]
    """Versions of packages, backend and precision, as the agent reported them."""


@dataclass(frozen=True, kw_only=True)
class AgentLife:
    """One agent that worked for the study."""

    host: str
    slots: int
    versions: Mapping[str, str]
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class StudyHistory:
    """A study with all its records."""

    study: StoredStudy
    status: StudyStatus
    trials: Sequence[TrialRow]
    added: Sequence[TrialRow]
    """Results that only Optuna has: imported, or added with plain Optuna."""
    epochs: Sequence[EpochRow]
    attempts: Sequence[AttemptRow]
    agents: Sequence[AgentLife]
    retrains: Sequence[RetrainRow]
    notes: Mapping[int, str]
    """Notes on trials by number, those on added ones included."""
    seeds: Mapping[int, int] = field(default_factory=dict)
    """Seed of each trial, by number."""

    @cached_property
    def curves(self) -> dict[int, list[EpochRow]]:
        """Epochs of each trial in order, keyed by trial number."""
        found: dict[int, list[EpochRow]] = {}
        for row in self.epochs:
            found.setdefault(row.number, []).append(row)
        return found

    def judged(self, number: int | None, epoch: int | None = None) -> Reported | None:
        """Return the report that was the value of a trial by the study's rule after `epoch`, or at its end."""
        rows = self.curves.get(number, []) if number is not None else []
        metrics = {row.epoch: row.metrics for row in rows if epoch is None or row.epoch <= epoch}
        reports = reported(metrics, self.study.metric, own_steps=not declares_epochs(self.study.spec_json))
        return chosen(reports, self.study.value_rule, maximize=self.study.maximize)

    @cached_property
    def complete(self) -> list[TrialRow]:
        """Complete trials with a finite value, ordered by number."""
        return [
            trial
            for trial in self.trials
            if trial.state == Outcome.COMPLETE and trial.value is not None and math.isfinite(trial.value)
        ]

    @cached_property
    def best(self) -> TrialRow | None:
        """Best complete trial; on a tie, the earlier one."""
        sign = -1 if self.study.maximize else 1
        return min(self.complete, key=lambda trial: sign * (trial.value or 0.0), default=None)

    @cached_property
    def front(self) -> list[TrialRow]:
        """Complete trials of which none is better in the metric and in `--also-minimize`, the smallest figure last."""
        return front_of(self.study, self.complete)

    @cached_property
    def codes(self) -> dict[str, list[int]]:
        """Numbers of the trials that ran with each version of the objective's code, by its digest; earliest first."""
        found: dict[str, list[int]] = {}
        for attempt in self.attempts:
            if attempt.number is not None and (attempt.pid is not None or attempt.epochs):
                trained = found.setdefault(attempt.versions.get(CODE, NOT_RECORDED), [])
                if attempt.number not in trained:
                    trained.append(attempt.number)
        return found

    @cached_property
    def space(self) -> Mapping[str, BaseDistribution]:
        """Search space of the study."""
        from hpo.search.spec import space_from_json

        return space_from_json(self.study.spec_json["space"])

    @property
    def parameters(self) -> list[str]:
        """Parameter names in the order of the search space."""
        return list(self.study.spec_json["space"])

    @property
    def finished_retrains(self) -> list[RetrainRow]:
        """Finished retrains, oldest first."""
        return [row for row in self.retrains if row.metrics is not None]

    @property
    def answer(self) -> RetrainRow | None:
        """Retrain that stands for the study: the last one of the search's own choice, otherwise the last one."""
        finished = self.finished_retrains
        own = [row for row in finished if row.source is Source.SEARCH]
        return next(reversed(own or finished), None)

    @property
    def test_openings(self) -> list[datetime]:
        """Times at which retrains of this study evaluated the test set."""
        return sorted(row.test_opened_at for row in self.retrains if row.test_opened_at is not None)


def read_history(database: Database, name: str, retry: Retry | None = None) -> StudyHistory:
    """Read the complete history of a study in one snapshot.

    Raises:
        UnknownStudyError: no study has that name.
    """

    def read(connection: Connection) -> StudyHistory:
        # One snapshot for all queries, because a running study changes meanwhile.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        study = read_study(connection, name, database)
        study_id = study.study_id
        return StudyHistory(
            study=study,
            status=read_status(connection, study),
            trials=trial_rows_of(connection, study_id),
            added=[row for row in added_rows(connection, study_id) if row.value is not None],
            epochs=_epochs(connection, study_id),
            attempts=_attempts(connection, study_id),
            agents=_agents(connection, study_id),
            retrains=retrains_of(connection, study_id),
            notes=read_notes(connection, study_id),
            seeds=_seeds(connection, study_id),
        )

    return database.transaction(read, retry)


def _seeds(connection: Connection, study_id: int) -> dict[int, int]:
    query = select(trials.c.number, trials.c.seed).where(
        trials.c.study_id == study_id, trials.c.number.is_not(None)
    )
    return {row.number: row.seed for row in connection.execute(query)}


def _epochs(connection: Connection, study_id: int) -> list[EpochRow]:
    query = (
        select(trials.c.number, *_columns(epochs, EpochRow))
        .select_from(epochs.join(trials))
        .where(trials.c.study_id == study_id, trials.c.number.is_not(None))
        .order_by(trials.c.number, epochs.c.epoch)
    )
    return [
        EpochRow(**{**row._mapping, "metrics": read_metrics(row.metrics)})
        for row in connection.execute(query)
    ]


def _attempts(connection: Connection, study_id: int) -> list[AttemptRow]:
    spent = func.greatest(func.coalesce(seconds_of_attempt(), 0.0), 0.0).label("seconds")
    query = (
        select(*_columns(attempts, AttemptRow), trials.c.number, agents.c.process, agents.c.versions, spent)
        .select_from(attempts.join(trials).join(agents))
        .where(trials.c.study_id == study_id)
        .order_by(attempts.c.attempt_id)
    )
    return [AttemptRow(**row._mapping) for row in connection.execute(query)]


def _agents(connection: Connection, study_id: int) -> list[AgentLife]:
    query = (
        select(*_columns(agents, AgentLife)).where(agents.c.study_id == study_id).order_by(agents.c.agent_id)
    )
    return [AgentLife(**row._mapping) for row in connection.execute(query)]


def _columns(table: Table, record: type) -> list[Column[Any]]:
    """Return the columns of a table that are fields of a record."""
    return [table.c[one.name] for one in fields(record) if one.name in table.c]
