"""The state, counts and best trial of a study, which its agents read every second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.agent.store.study_session import StudySession
from storage import budget, trials
from storage.budget import Counts
from storage.engine import Connection
from storage.studies import read_desired_state


@dataclass(frozen=True)
class StudySnapshot:
    """State and counts of a study, which an agent reads every second."""

    desired_state: str
    counts: Counts
    best: tuple[int, float, Mapping[str, Any]] | None
    """Number, value and parameters of the best complete trial."""


class Snapshots:
    """Snapshots of one study; the best trial is read again only after another one is complete."""

    def __init__(self, session: StudySession, study_id: int, *, maximize: bool) -> None:
        self._session = session
        self._study_id = study_id
        self._maximize = maximize
        self._best_among: int | None = None
        self._best: tuple[int, float, Mapping[str, Any]] | None = None

    def read(self) -> StudySnapshot:
        """Return the study's state and counts.

        Raises:
            StudyLostError: the study is gone.
        """
        desired_state, counts, present = self._session.write(
            lambda c: (
                read_desired_state(c, self._study_id),
                budget.count(c, self._study_id),
                self._session.presence(c),
            )
        )
        self._session.check(present)
        if counts.complete != self._best_among:
            self._best_among, self._best = counts.complete, self._session.statement(self._find_best)
        return StudySnapshot(desired_state, counts, self._best)

    def _find_best(self, connection: Connection) -> tuple[int, float, Mapping[str, Any]] | None:
        row = trials.best_trial(connection, self._study_id, maximize=self._maximize)
        return (row.number, row.value, row.params) if row is not None else None
