"""The service's own studies in the dashboard, which also shows studies of plain Optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from bottle import HTTPError

from hpo import formatting
from hpo.analysis.records import drawable
from hpo.devices.provenance import DATA
from hpo.errors import HpoError
from hpo.formatting import printable
from hpo.report.mistakes import MOST_CLASSES
from hpo.study.catalog import StudyBusyError, StudySummary, delete_study, summaries
from objectives.trial_value import judged_metric
from storage import agents, retrains, studies, trials
from storage.connection.retry import Retry

if TYPE_CHECKING:
    from storage.engine import Connection, Database


T = TypeVar("T")

PATIENCE = Retry(patience_seconds=5.0)


@dataclass(frozen=True)
class Facts:
    """A study of the service, as its page shows it."""

    metric: str
    attributes: Mapping[str, str]


class OwnStudies:
    """Data of the service about studies, by Optuna's id; empty for studies of plain Optuna."""

    def __init__(self, database: Database, folders: Sequence[Path] = ()) -> None:
        """`folders` contain one folder for each study, which is deleted with the study."""
        self._database = database
        self._folders = folders

    def names(self) -> dict[int, str]:
        """Return the names of the service's studies by id."""
        return read(self._database, studies.names)

    def facts(self) -> dict[str, Facts]:
        """Return the facts of the service about its studies, by name."""
        return read(self._database, _facts)

    def states(self, study_id: int) -> dict[int, tuple[str, str]]:
        """Return state and error of each trial that is not complete, see `storage.trials.states`."""
        return read(self._database, lambda c: trials.states(c, study_id))

    def parameters(self, study_id: int) -> list[str]:
        """Return the names of the parameters in the order of the study's space."""
        return read(self._database, lambda c: studies.parameters(c, study_id))

    def retrained(self, study_id: int) -> list[int]:
        """Return the numbers of the trials with a confusion matrix."""
        return list(read(self._database, lambda c: read_confusions(c, study_id)))

    def delete(self, study_id: int) -> None:
        """Delete a study like `hpo delete`.

        Raises:
            HTTPError: some of its trials are running.
        """
        name = self.names().get(study_id)
        if name is None:
            self._database.optuna.delete_study(study_id)
            return
        try:
            delete_study(self._database, name, folders=self._folders)
        except StudyBusyError as error:
            # The dashboard shows the text of this kind of error only.
            raise HTTPError(409, str(error)) from error


def _facts(connection: Connection) -> dict[str, Facts]:
    retrained, names = retrains.latest_summaries(connection), studies.names(connection)
    loaded = {names[number]: data for number, data in agents.latest_versions(connection, DATA).items()}
    return {
        row.name: Facts(
            row.metric, _attributes(row, loaded.get(row.name) or row.data, retrained.get(row.name))
        )
        for row in summaries(connection)
    }


def _attributes(study: StudySummary, data: str, tested: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the attributes of a study in the order of its page, which shows five at first."""
    attributes = {
        "objective": study.objective,
        "data": data,
        "budget": f"{study.finished} of {study.budget} trials finished, {study.failed} failed",
        "state": study.state,
        "test result": ", ".join(
            f"{name} {formatting.metric(formatting.json_number(value.get('mean')))}"
            for name, value in (tested or {}).items()
            if isinstance(value, Mapping) and name.startswith("test_")
        ),
        "report": f"/reports/{quote(study.name, safe='')}/report.html",
        "metric": judged_metric(study.metric, study.value_rule),
    }
    return {name: printable(value) for name, value in attributes.items() if value}


def read(database: Database, work: Callable[[Connection], T]) -> T:
    """Return the result of `work` in a transaction, retried for a few seconds only because a user is waiting.

    Raises:
        HTTPError: the database does not respond.
    """
    try:
        return database.transaction(work, PATIENCE)
    except HpoError as error:
        raise HTTPError(503, str(error)) from error


def read_confusions(connection: Connection, study_id: int) -> dict[int, Mapping[str, Any]]:
    """Return the confusion matrices of the latest retrain of each retrained trial, by number.

    `matrices` has one for each final run, `classes` the class names or None.
    """
    found = [
        (
            row.number,
            drawable([{"confusion": matrix, "classes": row.classes} for matrix in row.matrices or ()]),
        )
        for row in retrains.confusions(connection, study_id)
    ]
    return {
        number: {"matrices": [run["confusion"] for run in runs], "classes": runs[0].get("classes")}
        for number, runs in found
        if runs and all(0 < len(run.get("confusion", ())) <= MOST_CLASSES for run in runs)
    }
