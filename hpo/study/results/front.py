"""The front of a study with `--also-minimize`: the trials between which you choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.errors import NoResultError, UsageError
from hpo.outcomes import Outcome
from hpo.search.pareto import front
from hpo.study.catalog import read_study
from hpo.study.results.trials import TrialRow, trial_rows_of
from storage.studies import StoredStudy

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class Front:
    """The trials of a study of which none is better in both objectives."""

    metric: str
    figure: str
    trials: Sequence[TrialRow]
    """The best metric first, the smallest figure last."""


def read_front(database: Database, name: str) -> Front:
    """Return the front of a study.

    Raises:
        UnknownStudyError: no study has that name.
        UsageError: the study has one objective.
        NoResultError: no trial is complete.
    """

    def read(connection: Connection) -> Front:
        study = read_study(connection, name, database)
        figure = second_of(study)
        if figure is None:
            raise UsageError(
                f"study {name!r} has no front, because it optimizes {study.metric} alone: launch another study with"
                f" --also-minimize, or show the best trial with hpo best --study {name}"
            )
        trials = front_of(study, trial_rows_of(connection, study.study_id))
        if not trials:
            raise NoResultError(
                f"study {name!r} has no complete trial yet: hpo status --study {name} shows its progress"
            )
        return Front(metric=study.metric, figure=figure, trials=trials)

    return database.transaction(read)


def second_of(study: StoredStudy) -> str | None:
    """Return the figure that a study minimizes next to its metric, if it does."""
    found = study.spec_json.get("also_minimize")
    return None if found is None else str(found)


def front_of(study: StoredStudy, trials: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the complete trials of which none is better in both objectives, the best metric first."""
    figure, sign = second_of(study), -1.0 if study.maximize else 1.0
    points = [
        (sign * trial.value, trial.figures[figure], trial)
        for trial in trials
        if figure is not None
        and trial.state == Outcome.COMPLETE
        and trial.value is not None
        and figure in trial.figures
    ]
    return [points[index][2] for index in front([(value, second) for value, second, _ in points])]
