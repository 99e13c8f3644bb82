"""The service's own studies among those that the dashboard shows: it also shows studies of plain Optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bottle import HTTPError
from sqlalchemy import Connection, select, text

from hpo.errors import HpoError
from hpo.report.retraining_sections import MOST_CLASSES
from hpo.study.catalog import StudyBusyError, delete_study
from storage.retry import Retry
from storage.tables import studies

if TYPE_CHECKING:
    from storage.engine import Database


T = TypeVar("T")

PATIENCE = Retry(patience_seconds=5.0)


class OwnStudies:
    """What the service knows of studies that Optuna knows by their ids; a study of others has nothing of it."""

    def __init__(self, database: Database, folders: Sequence[Path] = ()) -> None:
        """`folders` hold a folder for each study, which goes when the study is deleted."""
        self._database = database
        self._folders = folders

    def names(self) -> dict[int, str]:
        """Ids of the service's studies to their names."""
        return read(
            self._database,
            lambda c: {
                row.study_id: row.name for row in c.execute(select(studies.c.study_id, studies.c.name))
            },
        )

    def retrained(self, study_id: int) -> list[int]:
        """Numbers of the trials whose confusion matrix can be drawn."""
        return list(read(self._database, lambda c: read_confusions(c, study_id)))

    def delete(self, study_id: int) -> None:
        """Delete a study as `hpo delete` does.

        Raises:
            HTTPError: trials of it are running.
        """
        name = self.names().get(study_id)
        if name is None:
            self._database.optuna.delete_study(study_id)
            return
        try:
            delete_study(self._database, name, folders=self._folders)
        except StudyBusyError as error:
            # The one kind of error whose text the dashboard shows.
            raise HTTPError(409, str(error)) from error


def read(database: Database, work: Callable[[Connection], T]) -> T:
    """What `work` reads in a transaction, tried again for a few seconds: somebody waits for the page.

    Raises:
        HTTPError: the database does not answer.
    """
    try:
        return database.transaction(work, PATIENCE)
    except HpoError as error:
        raise HTTPError(503, str(error)) from error


def read_confusions(connection: Connection, study_id: int) -> dict[int, Mapping[str, Any]]:
    """The confusion matrices of each trial that was retrained, by its number: the latest retrain's.

    `matrices` holds one for each final run, `classes` the classes' names or None.
    """
    # No more of the metrics than is needed: they hold images too.
    rows = connection.execute(
        text(
            "SELECT config->>'trial' AS number, jsonb_path_query_array(metrics, '$.runs[*].confusion') AS matrices,"
            " metrics #> '{runs,0,classes}' AS classes FROM hpo.retrains JOIN hpo.studies USING (study_id)"
            " WHERE study_id = :s AND metrics IS NOT NULL"
            # A configuration of a file may be a trial of another study.
            " AND coalesce(config->>'study', name) = name ORDER BY retrain_id"
        ),
        {"s": study_id},
    )
    return {
        int(row.number): {"matrices": row.matrices, "classes": row.classes}
        for row in rows
        if row.number is not None
        and row.matrices
        and all(0 < len(matrix) <= MOST_CLASSES for matrix in row.matrices)
    }
