"""A study as a launch or an agent finds it: with its parsed spec and its progress."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from hpo.search.spec import StudySpec
from hpo.study.definition import twin
from storage import studies
from storage.engine import Database
from storage.optuna import studies as optuna_studies
from storage.studies import StoredStudy


@dataclass(frozen=True, kw_only=True)
class LaunchedStudy(StoredStudy):
    """A stored study with its parsed spec and its progress, as it was read."""

    spec: StudySpec
    reserved: int
    """Trials that were reserved, those that failed included."""
    finished: int
    open: int
    """Trials that were started and have no outcome yet."""
    begun: bool
    """Whether it has trials, with which later ones must stay comparable, or an agent about to start one."""


def find(database: Database, name: str) -> LaunchedStudy | None:
    """Return the study of that name, or None.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """

    def read(c: Connection) -> LaunchedStudy | None:
        study = studies.find(c, name)
        if study is None:
            return None
        spec = StudySpec.from_json(study.spec_json)
        twin.check_optuna(name, spec.direction, optuna_studies.find_by_id(c, study.study_id))
        progress = studies.progress(c, study.study_id)
        return LaunchedStudy(
            **vars(study),
            spec=spec,
            reserved=progress.trials,
            finished=progress.finished,
            open=progress.open,
            begun=progress.trials > 0 or progress.has_agents,
        )

    return database.transaction(read)
