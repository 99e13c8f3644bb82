"""`hpo backup` and `hpo restore`: one study as a portable file."""

from __future__ import annotations

import gzip
import json
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, IntegrityError

from hpo.devices.provenance import versions
from hpo.errors import BackupFileError, StudyConflictError
from hpo.files.atomic import new_file
from hpo.options.study_name import check_study_name
from hpo.study.backup.file import FORMAT, BackupRows, damaged, read_header
from hpo.study.catalog import describe_database, read_study
from storage import studies, study_dump
from storage.engine import Database
from storage.migrate import HEAD
from storage.optuna.trials import RESERVATION_ATTRIBUTE


@dataclass(frozen=True)
class Backup:
    """Summary of a backup that was written or restored."""

    study: str
    trials: int
    rows: int


def write_backup(database: Database, study: str, path: Path) -> Backup:
    """Write a snapshot of a study to a file atomically.

    Raises:
        UnknownStudyError: no study has that name.
        FileNotWritableError: the file cannot be written.
    """
    with new_file(path) as partial:
        return database.transaction(lambda connection: _write(connection, database, study, partial))


def read_backup(database: Database, path: Path, name: str | None = None) -> Backup:
    """Restore a study under its own name or another, in one transaction: a file that is refused changes nothing.

    Raises:
        BackupFileError: the file is missing, damaged, truncated, or of another version.
        StudyConflictError: a study with that name exists.
    """
    header = read_header(path)
    found = database.transaction(_tables)
    readable = header.tables.get("hpo") in study_dump.READABLE_REVISIONS
    if not readable or header.tables | {"hpo": HEAD} != found:
        raise BackupFileError(
            f"{path} was written from tables {header.tables}, and those of this database are {found}: restore it"
            f" with hpo-service {header.version} into an empty database; a newer version brings its tables up to"
            " date when it opens it"
        )
    study = check_study_name(name or header.study)
    # Before the rows are checked, because a large file takes a while.
    if database.transaction(lambda c: studies.ids_of(c, study)):
        raise _conflict(database, study)
    rows = BackupRows(path)
    deque(rows, maxlen=0)
    ours: set[int] = set()

    def restore(connection: Connection) -> Backup:
        existing = studies.ids_of(connection, study)
        if existing and existing <= ours:
            # Committed before; only the confirmation was lost.
            return Backup(study, header.trials, rows.read)
        if existing:
            raise _conflict(database, study)
        # Closes the file at once if writing stops before the last row.
        with closing(iter(rows)) as reading:
            ids = study_dump.write_rows(connection, reading, study, RESERVATION_ATTRIBUTE, rows.reservations)
        ours.update(ids["public.studies"].values())
        return Backup(study, header.trials, rows.read)

    try:
        return database.transaction(restore)
    except study_dump.RowsUnsoundError as exc:
        raise damaged(path, str(exc)) from exc
    except IntegrityError as exc:
        if "study_name" in str(exc.orig) or "uq_studies_name" in str(exc.orig):
            raise _conflict(database, study) from exc
        raise damaged(path, "its rows contradict each other") from exc
    except DataError as exc:
        raise damaged(path, "a value is not of its column's type") from exc


def _conflict(database: Database, study: str) -> StudyConflictError:
    return StudyConflictError(
        f"study {study!r} already exists in {describe_database(database)}: restore under another name with --as,"
        f" or run hpo delete --study {study} first"
    )


def _write(connection: Connection, database: Database, study: str, path: Path) -> Backup:
    study_dump.begin_snapshot(connection)
    study_id = read_study(connection, study, database).study_id
    counts = connection.execute(
        text(
            "SELECT count(*) AS trials, min(reservation_id) AS low, max(reservation_id) AS high"
            " FROM hpo.trials WHERE study_id = :s"
        ),
        {"s": study_id},
    ).one()
    header = {
        "format": FORMAT,
        "study": study,
        "trials": counts.trials,
        "tokens": [counts.low, counts.high] if counts.trials else None,
        "tables": _tables(connection),
        "made_at": str(connection.execute(text("SELECT to_json(now()) #>> '{}'")).scalar_one()),
        "versions": versions(),
    }
    rows = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        print(json.dumps(header), file=file)
        for table, row in study_dump.read_rows(connection, study_id):
            print(f'{{"table": "{table}", "row": {row}}}', file=file)
            rows += 1
        print(json.dumps({"rows": rows}), file=file)
    return Backup(study, counts.trials, rows)


def _tables(connection: Connection) -> dict[str, str]:
    """Return the schema revisions of our tables and of Optuna's."""
    optuna = connection.execute(text("SELECT version_num FROM public.alembic_version")).scalar_one()
    return {"hpo": HEAD, "optuna": str(optuna)}
