"""Create and upgrade the tables: ours in the schema `hpo`, Optuna's in `public`."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from hpo.errors import SchemaTooNewError, StorageUrlError
from storage.connection.retry import MISSING_RIGHTS, short_reason, sqlstate
from storage.connection.url import engine_options, full_url, shown_url
from storage.tables import SCHEMA

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

# The newest revision in migrations/versions (a test compares), so that most starts need no Alembic.
HEAD = "0006"

MIGRATIONS = Path(__file__).with_name("migrations")

_REVISION = re.compile(r"""^(revision|down_revision) = ["'](.+)["']""", re.MULTILINE)

# Any number; advisory locks are per database.
_LOCK = 0x68706F
LOCK_SECONDS = 120


def migrate(engine: Engine) -> None:
    """Create or upgrade all tables; many processes may call it at once.

    Raises:
        SchemaTooNewError: a newer hpo-service has migrated the database.
        StorageUrlError: the user may not create tables.
    """
    with engine.connect() as connection:
        if current_revision(connection) == HEAD:
            return
    try:
        with engine.begin() as connection:
            # Another process's migration may take longer than the limit of a statement.
            connection.execute(text(f"SET LOCAL statement_timeout = '{LOCK_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            if current_revision(connection) == HEAD:
                return
            _refuse_newer(connection)
            optuna_storage(engine.url, create=True).engine.dispose()
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            _upgrade(connection)
    except ProgrammingError as error:
        if sqlstate(error) != MISSING_RIGHTS:
            raise
        raise missing_rights(engine.url, error) from error


def missing_rights(url: URL, error: BaseException) -> StorageUrlError:
    """Return the error of a database user who lacks rights."""
    return StorageUrlError(
        f"the user of {shown_url(url)} lacks rights ({short_reason(error)}): make it the owner of the database and of "
        "its tables (ALTER DATABASE … OWNER TO …, REASSIGN OWNED BY … TO …)"
    )


def current_revision(connection: Connection) -> str | None:
    """Return the revision of our tables; None if there are no tables."""
    name = f"{SCHEMA}.alembic_version"
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar_one() is None:
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {name}")).scalar_one_or_none()
    return revision


def optuna_storage(url: URL, *, create: bool) -> RDBStorage:
    """Return Optuna's storage on `url`; raises StorageUrlError if another version of Optuna made its tables."""
    from optuna.exceptions import StorageInternalError

    from storage.optuna.bulk_storage import BulkStorage

    # Its warnings are whole statements, with their parameters, that it tries again; errors are raised all the same.
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    options: dict[str, Any] = engine_options(url)
    if create:
        kept = {name: options[name] for name in ("connect_args", "pool_events")}
        options = {"poolclass": NullPool, **kept}
    try:
        storage = BulkStorage(
            full_url(url),
            engine_kwargs=options,
            skip_table_creation=not create,
            # It imports all of Optuna's migrations, which takes half of the time that a storage takes.
            skip_compatibility_check=True,
        )
        with storage.engine.connect() as connection:
            found = connection.execute(text("SELECT version_num FROM public.alembic_version")).scalars().all()
    except StorageInternalError as error:
        if sqlstate(error) != MISSING_RIGHTS:
            raise
        raise missing_rights(url, error) from error
    # Optuna's own answer counts if the text of its migrations has changed its form.
    if found != [optuna_head()] and found != [storage.get_head_version()]:
        storage.engine.dispose()
        raise StorageUrlError(
            f"the Optuna tables in {shown_url(url)} were made by another version of Optuna: use an empty "
            "database (versions 4 and 5 store times differently and must not be mixed)"
        )
    return storage


@cache
def optuna_head() -> str:
    """Return the newest revision of Optuna's tables, from the text of its migrations; empty if it is unclear."""
    import optuna

    texts = (Path(optuna.__file__).parent / "storages/_rdb/alembic/versions").glob("*.py")
    found = [dict(_REVISION.findall(one.read_text(encoding="utf-8"))) for one in texts]
    heads = {one.get("revision", "") for one in found} - {one.get("down_revision") for one in found}
    return heads.pop() if len(heads) == 1 else ""


def _refuse_newer(connection: Connection) -> None:
    found = current_revision(connection)
    known = {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")}
    if found is not None and found not in known:
        raise SchemaTooNewError(
            f"the database was migrated by a newer hpo-service (revision {found}, this one supports {HEAD}): "
            "upgrade this installation"
        )


def _upgrade(connection: Connection, revision: str = "head") -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table_schema": SCHEMA,
            "fn": lambda current, _: scripts._upgrade_revs(revision, current),
        },
    )
    with Operations.context(context):
        context.run_migrations()
