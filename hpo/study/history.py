"""All that the database knows of one study, read at once: trials, epochs, attempts, agents and retrains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from hpo.study.catalog import StudyRow, read_study
from hpo.study.predicates import seconds_of_attempt
from hpo.study.status import StudyStatus, read_status
from hpo.study.trials import TrialRow, trial_rows_of
from storage.retrains import RetrainRow, Source, retrains_of
from storage.tables import agents, attempts, epochs, trials

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True)
class EpochRow:
    """One epoch of a trial, as it was first reported."""

    number: int
    epoch: int
    metrics: Mapping[str, float]
    seconds: float
    attempt_id: int
    created_at: datetime


@dataclass(frozen=True)
class AttemptRow:
    """One execution of a trial."""

    attempt_id: int
    number: int | None
    host: str
    device: str
    slot: int
    resumed_from: int | None
    epochs: int
    """That it trained itself."""
    outcome: str | None
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    pid: int | None
    """Its trainer's; None where none began."""
    process: str
    """Its agent, for life: boot, pid namespace, pid and start time."""
    versions: Mapping[str, str]
    """Of what trained it, as its agent said: packages, backend and precision."""


@dataclass(frozen=True)
class AgentLife:
    """One agent that worked for the study."""

    host: str
    slots: int
    versions: Mapping[str, str]
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class StudyHistory:
    """A study and everything that was recorded of it."""

    study: StudyRow
    status: StudyStatus
    trials: Sequence[TrialRow]
    epochs: Sequence[EpochRow]
    attempts: Sequence[AttemptRow]
    agents: Sequence[AgentLife]
    retrains: Sequence[RetrainRow]

    @cached_property
    def curves(self) -> dict[int, list[EpochRow]]:
        """Each trial's epochs, in order, by its number."""
        found: dict[int, list[EpochRow]] = {}
        for row in self.epochs:
            found.setdefault(row.number, []).append(row)
        return found

    @cached_property
    def complete(self) -> list[TrialRow]:
        """Trials that ran to their end with a finite value, by number."""
        return [
            trial
            for trial in self.trials
            if trial.state == "complete" and trial.value is not None and math.isfinite(trial.value)
        ]

    @cached_property
    def best(self) -> TrialRow | None:
        """The best of them, the earlier of equals."""
        sign = -1 if self.study.maximize else 1
        return min(self.complete, key=lambda trial: sign * (trial.value or 0.0), default=None)

    @property
    def parameters(self) -> list[str]:
        """Names of the search space, in its order."""
        return list(self.study.spec["space"])

    @property
    def finished_retrains(self) -> list[RetrainRow]:
        """Those that ran to their end, oldest first."""
        return [row for row in self.retrains if row.metrics is not None]

    @property
    def answer(self) -> RetrainRow | None:
        """The retrain whose figures are the study's: the last one of what the search chose, whatever it showed; else
        the last one."""
        finished = self.finished_retrains
        own = [row for row in finished if row.source is Source.SEARCH]
        return next(reversed(own or finished), None)

    @property
    def test_openings(self) -> list[datetime]:
        """When retrains of this study looked at the test set."""
        return sorted(row.test_opened_at for row in self.retrains if row.test_opened_at is not None)


def read_history(database: Database, name: str) -> StudyHistory:
    """Everything of a study, as of one moment.

    Raises:
        UnknownStudyError: there is none of that name.
    """

    def read(connection: Connection) -> StudyHistory:
        # One snapshot for all queries: a study that runs goes on meanwhile.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        study = read_study(connection, name, database)
        return StudyHistory(
            study,
            read_status(connection, study),
            trial_rows_of(connection, study.study_id),
            _epochs(connection, study.study_id),
            _attempts(connection, study.study_id),
            _agents(connection, study.study_id),
            retrains_of(connection, study.study_id),
        )

    return database.transaction(read)


def _epochs(connection: Connection, study_id: int) -> list[EpochRow]:
    query = (
        select(
            trials.c.number,
            epochs.c.epoch,
            epochs.c.metrics,
            epochs.c.seconds,
            epochs.c.attempt_id,
            epochs.c.created_at,
        )
        .select_from(epochs.join(trials, epochs.c.token == trials.c.token))
        .where(trials.c.study_id == study_id, trials.c.number.is_not(None))
        .order_by(trials.c.number, epochs.c.epoch)
    )
    return [
        EpochRow(
            row.number,
            row.epoch,
            {name: float(value) for name, value in row.metrics.items()},
            row.seconds,
            row.attempt_id,
            row.created_at,
        )
        for row in connection.execute(query)
    ]


def _attempts(connection: Connection, study_id: int) -> list[AttemptRow]:
    query = (
        select(
            attempts,
            trials.c.number,
            agents.c.process,
            agents.c.versions,
            seconds_of_attempt().label("spent"),
        )
        .select_from(
            attempts.join(trials, attempts.c.token == trials.c.token).join(
                agents, attempts.c.agent_id == agents.c.agent_id
            )
        )
        .where(trials.c.study_id == study_id)
        .order_by(attempts.c.attempt_id)
    )
    return [
        AttemptRow(
            row.attempt_id,
            row.number,
            row.host,
            row.device,
            row.slot,
            row.resumed_from,
            row.epochs,
            row.outcome,
            row.error,
            row.started_at,
            row.ended_at,
            max(0.0, row.spent or 0.0),
            row.pid,
            row.process,
            row.versions,
        )
        for row in connection.execute(query)
    ]


def _agents(connection: Connection, study_id: int) -> list[AgentLife]:
    query = select(agents).where(agents.c.study_id == study_id).order_by(agents.c.agent_id)
    return [
        AgentLife(row.host, row.slots, row.versions, row.started_at, row.seen_at, row.ended_at)
        for row in connection.execute(query)
    ]
