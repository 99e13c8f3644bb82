"""`hpo backup` and `hpo restore`: one study as a portable file.

The file is gzipped JSON lines: a header, one line per row of `storage.study_dump`, and the row count.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, IntegrityError

from hpo.devices.provenance import versions
from hpo.errors import BackupFileError, FileNotWritableError, StudyConflictError
from hpo.files.atomic import atomic_write
from hpo.options import check_study_name
from hpo.study.catalog import describe_database, read_study
from storage import study_dump
from storage.engine import Database
from storage.migrate import HEAD
from storage.optuna_trials import RESERVATION_ATTRIBUTE

FORMAT = 1
"""Version of the file format."""


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            return database.transaction(lambda connection: _write(connection, database, study, partial))
    except OSError as exc:
        raise FileNotWritableError(f"cannot write {path}: {exc.strerror or exc}") from exc


def read_backup(database: Database, path: Path, name: str | None = None) -> Backup:
    """Restore a study under its own name or another, in one transaction.

    Raises:
        BackupFileError: the file is missing, damaged, truncated, or of another version.
        StudyConflictError: a study with that name exists.
    """
    with _opened(path) as file:
        header = _header(path, file)
    found = database.transaction(_tables)
    readable = header["tables"].get("hpo") in study_dump.READABLE_REVISIONS
    if not readable or header["tables"] | {"hpo": HEAD} != found:
        raise BackupFileError(
            f"{path} was written from tables {header['tables']}, and those of this database are {found}: restore it"
            f" with hpo-service {header['versions'].get('hpo-service', '?')} into an empty database; a newer"
            " version brings its tables up to date when it opens it"
        )
    study = check_study_name(name or header["study"])
    # Checked before ids are reserved, so that a failed restore can be repeated with the same ids.
    if database.transaction(lambda c: _study_ids(c, study)):
        raise _conflict(database, study)
    deque(_Rows(path), maxlen=0)
    bounds = header["tokens"]
    keep = database.transaction(lambda c: study_dump.keep_reservations(c, *bounds)) if bounds else False
    ours: set[int] = set()
    rows = _Rows(path)

    def restore(connection: Connection) -> Backup:
        existing = _study_ids(connection, study)
        if existing and existing <= ours:
            # Committed before; only the confirmation was lost.
            return Backup(study, header["trials"], rows.read)
        if existing:
            raise _conflict(database, study)
        try:
            # Closes the file at once if writing stops before the last row.
            with closing(iter(rows)) as reading:
                ids = study_dump.write_rows(connection, reading, study, RESERVATION_ATTRIBUTE, keep)
        except study_dump.RowsUnsoundError as exc:
            raise _damaged(path, str(exc)) from exc
        ours.update(ids["public.studies"].values())
        return Backup(study, header["trials"], rows.read)

    try:
        return database.transaction(restore)
    except IntegrityError as exc:
        if "study_name" in str(exc.orig) or "uq_studies_name" in str(exc.orig):
            raise _conflict(database, study) from exc
        raise _damaged(path, "its rows contradict each other") from exc
    except DataError as exc:
        raise _damaged(path, "a value is not of its column's type") from exc


def _study_ids(connection: Connection, study: str) -> set[int]:
    """Return the ids of studies with that name, in Optuna's tables and ours."""
    taken = connection.execute(
        text(
            "SELECT study_id FROM public.studies WHERE study_name = :n"
            " UNION SELECT study_id FROM hpo.studies WHERE name = :n"
        ),
        {"n": study},
    ).scalars()
    return set(taken)


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


class _Rows:
    """Iterable of the rows of a file; `read` counts the rows of the last iteration."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read = 0

    def __iter__(self) -> Generator[tuple[str, dict[str, Any]]]:
        self.read = 0
        with _opened(self._path) as file:
            next(file)
            for line in file:
                entry = json.loads(line)
                if "table" not in entry:
                    if entry.get("rows") != self.read:
                        raise ValueError("the row count in its last line is wrong")
                    return
                yield str(entry["table"]), dict(entry["row"])
                self.read += 1
        raise _damaged(self._path, "it is truncated")


def _header(path: Path, file: IO[str]) -> dict[str, Any]:
    header = json.loads(file.readline())
    if not isinstance(header, dict) or "format" not in header:
        raise ValueError("it does not begin like a backup")
    if header["format"] != FORMAT:
        raise BackupFileError(
            f"{path} is a backup of format {header['format']}, and this hpo-service reads {FORMAT}: use a newer one"
        )
    missing = {"study", "trials", "tokens", "tables", "versions"} - header.keys()
    if missing:
        raise ValueError(f"its first line lacks {', '.join(sorted(missing))}")
    return header


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Open a backup as text; any error of the file becomes a BackupFileError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield file
    except FileNotFoundError as exc:
        raise BackupFileError(f"file not found: {path}") from exc
    except (EOFError, zlib.error) as exc:
        raise _damaged(path, "it is truncated or damaged") from exc
    except OSError as exc:
        # Includes gzip.BadGzipFile.
        raise _damaged(path, exc.strerror or str(exc)) from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise _damaged(path, " ".join(str(exc).split())) from exc


def _damaged(path: Path, why: str) -> BackupFileError:
    return BackupFileError(
        f"{path} is not a complete backup of a study ({why}): create a new one with hpo backup"
    )
