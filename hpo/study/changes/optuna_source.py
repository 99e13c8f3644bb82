"""Studies of plain Optuna in other storages: SQLite and journal files, PostgreSQL and other databases. Read only."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hpo.errors import HpoError, ImportSourceError, MissingDependencyError, StorageUrlError
from hpo.suggestions import did_you_mean
from hpo.trainer.ends.failures import one_line
from storage.connection.retry import short_reason
from storage.connection.url import REMEDY, engine_options, full_url, parse_url, shown_url, without_secrets

EXAMPLES = (
    "give an SQLite or journal file, or a URL such as sqlite:///study.db or postgresql://user@host/database"
)
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True, kw_only=True)
class OptunaSource:
    """A study of plain Optuna."""

    name: str
    place: str
    """Its storage, without a password."""
    directions: tuple[str, ...]
    trials: Sequence[FrozenTrial]


def read_source(url: str, name: str | None, preferred: str) -> OptunaSource:
    """Return the study of that name; without a name, the `preferred` one, or the only one.

    Raises:
        ImportSourceError: the storage or the study cannot be read.
        MissingDependencyError: the driver of the database is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _opened(url) as (storage, place):
        studies = {study.study_name: study for study in storage.get_all_studies()}
        if not studies:
            raise ImportSourceError(f"{place} has no study: {EXAMPLES}")
        chosen = name or (preferred if preferred in studies or len(studies) > 1 else next(iter(studies)))
        if chosen not in studies:
            known = ", ".join(sorted(studies)[:10]) + (", …" if len(studies) > 10 else "")
            raise ImportSourceError(
                f"{place} has no study {chosen!r}{did_you_mean(chosen, studies)}: choose one of them"
                f" with --from-study ({known})"
            )
        found = studies[chosen]
        return OptunaSource(
            name=chosen,
            place=place,
            directions=tuple(direction.name.lower() for direction in found.directions),
            trials=storage.get_all_trials(found._study_id),
        )


@contextmanager
def _opened(url: str) -> Iterator[tuple[BaseStorage, str]]:
    """Open a storage; every error of it becomes an ImportSourceError."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    found = None if scheme in ("", "postgres") else _parsed(url)
    place = url if found is None else shown_url(found)
    try:
        if found is None and not scheme:
            with _file(Path(url)) as storage:
                yield storage, place
        elif found is not None and found.get_backend_name() == "sqlite":
            with _file(Path(found.database or "")) as storage:
                yield storage, place
        else:
            if found is None or found.get_backend_name() == "postgresql":
                found = _postgresql(url)
            place = shown_url(found)
            with _server(found) as storage:
                yield storage, place
    except HpoError:
        raise
    except (ImportError, SQLAlchemyError, StorageInternalError) as exc:
        # Optuna's own error names no reason.
        cause = exc.__cause__ if isinstance(exc, StorageInternalError) and exc.__cause__ is not None else exc
        reason = str(exc) if isinstance(exc, ImportError) else short_reason(cause)
        if found is not None:
            reason = without_secrets(reason, found)
        raise ImportSourceError(f"{place} cannot be read ({reason}): {EXAMPLES}") from None
    # The file may hold anything.
    except Exception as exc:
        raise ImportSourceError(f"{place} cannot be read ({one_line(exc)}): {EXAMPLES}") from exc


def _parsed(url: str) -> URL:
    try:
        found = make_url(url)
        found.get_dialect()
    except (ArgumentError, SQLAlchemyError, ImportError, ValueError):
        # Neither the cause nor the URL: they may hold a password.
        raise ImportSourceError(f"the URL after --from is of no known database: {EXAMPLES}") from None
    return found


def _postgresql(url: str) -> URL:
    try:
        return parse_url(url)
    except StorageUrlError as exc:
        raise ImportSourceError(str(exc).replace(REMEDY, EXAMPLES)) from None


@contextmanager
def _file(path: Path) -> Iterator[BaseStorage]:
    """Open a copy, so that the file is neither changed nor upgraded."""
    path = path.expanduser()
    if path.exists() and not path.is_file():
        raise ImportSourceError(f"{path} is not a file: {EXAMPLES}")
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as exc:
        raise ImportSourceError(f"{path} cannot be read ({exc.strerror or exc}): {EXAMPLES}") from exc
    with tempfile.TemporaryDirectory(prefix="hpo-import-") as folder:
        copy = Path(folder) / "copy"
        if start == _SQLITE:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            storage = RDBStorage(f"sqlite:///{copy}", skip_table_creation=True, skip_compatibility_check=True)
            try:
                if storage.get_current_version() != storage.get_head_version():
                    storage.upgrade()
                yield storage
            finally:
                storage.remove_session()
                storage.engine.dispose()
        elif start.lstrip()[:1] == b"{":
            copy.write_bytes(path.read_bytes())
            yield JournalStorage(JournalFileBackend(str(copy)))
        else:
            raise ImportSourceError(
                f"{path} is neither an SQLite database nor a journal of Optuna: {EXAMPLES}"
            )


@contextmanager
def _server(url: URL) -> Iterator[BaseStorage]:
    options = {}
    if url.get_backend_name() == "postgresql":
        options = {**engine_options(url), "execution_options": {"postgresql_readonly": True}}
    try:
        storage = RDBStorage(
            full_url(url), engine_kwargs=options, skip_table_creation=True, skip_compatibility_check=True
        )
    except ImportError as exc:
        raise MissingDependencyError(
            f"{shown_url(url)} needs the Python driver {url.get_driver_name()}, which is not installed: install it, or"
            " name another, as in mysql+pymysql://…"
        ) from exc
    try:
        version = storage.get_current_version()
        if version != storage.get_head_version():
            raise ImportSourceError(
                f"{shown_url(url)} has tables of another version of Optuna ({version}): upgrade them with"
                " optuna storage upgrade, or copy the study to a file with optuna.copy_study"
            )
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
