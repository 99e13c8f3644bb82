"""The migrations: safe to run at once, equal to `tables.py`, and refused where a newer version has been."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url, select, text
from sqlalchemy.pool import NullPool

from hpo.errors import SchemaTooNewError, StorageUrlError
from storage import migrate
from storage.engine import Database
from storage.opening import open_database
from storage.tables import attempts, epochs, metadata, studies, trials

NOWHERE = Path("unused")

OLD_STUDY = Path(__file__).parents[2] / "data" / "study-of-revision-0002.gz"
"""Backup of a study that was written with the tables of revision 0002."""

COLUMNS = """
    SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
        pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'hpo'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'hpo'::regnamespace AND conrelid <> coalesce(to_regclass('hpo.alembic_version'), 0::oid)
"""
INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'hpo' AND tablename <> 'alembic_version'"
)


def schema(connection: Connection) -> list[list[str]]:
    """Everything PostgreSQL knows of our tables."""
    return [
        sorted(str(tuple(row)) for row in connection.execute(text(query)))
        for query in (COLUMNS, CONSTRAINTS, INDEXES)
    ]


def open_engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def test_migrations_create_exactly_the_tables(database: Database, empty_storage_url: str) -> None:
    engine = open_engine(empty_storage_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA hpo"))
        metadata.create_all(connection)
        expected = schema(connection)
    found = database.transaction(schema)
    assert found == expected
    assert all(found)


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_heads() == [migrate.HEAD]


def test_head_of_optuna_is_read_from_its_migrations(database: Database) -> None:
    storage = migrate.optuna_storage(database.engine.url, create=False)
    try:
        assert migrate.optuna_head() == storage.get_head_version()
    finally:
        storage.engine.dispose()


@pytest.mark.parametrize("head", ["", "v9.9.9.z"])
def test_tables_are_accepted_if_the_head_of_optuna_cannot_be_read(
    head: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "optuna_head", lambda: head)
    migrate.optuna_storage(database.engine.url, create=False).engine.dispose()


def test_tables_of_an_older_optuna_are_refused(database: Database) -> None:
    older = text("UPDATE public.alembic_version SET version_num = 'v3.0.0.d'")
    database.transaction(lambda connection: connection.execute(older))
    with pytest.raises(StorageUrlError, match="another version of Optuna"):
        migrate.optuna_storage(database.engine.url, create=False)


def test_database_of_revision_0002_keeps_its_rows_under_new_names(empty_storage_url: str) -> None:
    engine = open_engine(empty_storage_url)
    migrate.optuna_storage(engine.url, create=True).engine.dispose()
    with gzip.open(OLD_STUDY, "rt") as file, engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA hpo"))
        migrate._upgrade(connection, "0002")
        for entry in map(json.loads, file):
            if table := entry.get("table"):
                row = f"json_populate_record(CAST(NULL AS {table}), CAST(:row AS json))"
                connection.execute(
                    text(f"INSERT INTO {table} SELECT * FROM {row}"), {"row": json.dumps(entry["row"])}
                )
    with open_database(empty_storage_url, NOWHERE) as database:
        study = database.transaction(lambda c: c.execute(select(studies)).one())
        assert (study.desired_state, study.uid, list(study.spec["space"])) == (
            "pause", "0a1b2c3d", ["learning_rate"]
        )  # fmt: skip
        rows = database.transaction(lambda c: c.execute(select(trials).order_by(trials.c.number)).all())
        assert [(row.reservation_id, row.told_optuna, row.outcome, row.params) for row in rows] == [
            (1, False, "complete", {"learning_rate": 0.01}),
            (2, True, "pruned", {"learning_rate": 0.011}),
        ]
        for table in (attempts, epochs):
            query = select(table.c.reservation_id)
            assert database.transaction(lambda c, q=query: c.execute(q).scalars().all()) == [1]


def test_simultaneous_starts_on_an_empty_database_migrate_once(empty_storage_url: str) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.opening import open_database\n"
        "sys.stdin.readline()\n"
        "with open_database(sys.argv[1], Path('unused')) as database: database.optuna.get_all_studies()"
    )
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, empty_storage_url]
    pipe = subprocess.PIPE
    starting = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0] for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], printed
    assert printed == ["", "", ""]
    with open_engine(empty_storage_url).connect() as connection:
        assert migrate.current_revision(connection) == migrate.HEAD


def test_current_database_needs_neither_lock_nor_alembic(storage_url: str) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.opening import open_database\n"
        "open_database(sys.argv[1], Path('unused')).close()\n"
        "print([name for name in ('alembic', 'optuna') if name in sys.modules])"
    )
    with open_engine(storage_url).begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": migrate._LOCK})
        done = subprocess.run(
            [sys.executable, "-c", code, storage_url], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "[]"


def test_newer_schema_is_refused(database: Database, storage_url: str) -> None:
    database.transaction(lambda c: c.execute(text("UPDATE hpo.alembic_version SET version_num = '9999'")))
    with pytest.raises(SchemaTooNewError, match=r"newer hpo-service .*9999.*upgrade this installation"):
        open_database(storage_url, NOWHERE)


def test_tables_of_another_optuna_version_are_refused(empty_storage_url: str) -> None:
    with open_engine(empty_storage_url).begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('v9.0.0.a')"))
    with pytest.raises(StorageUrlError, match="another version of Optuna"):
        open_database(empty_storage_url, NOWHERE)
    with open_engine(empty_storage_url).connect() as connection:
        assert migrate.current_revision(connection) is None


def test_missing_permission_to_create_tables_is_reported(empty_storage_url: str) -> None:
    with open_engine(empty_storage_url).begin() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN"))
    try:
        with pytest.raises(
            StorageUrlError, match=r"lacks rights \(permission denied for schema public\).*owner"
        ):
            open_database(empty_storage_url.replace("postgres@", "guest@"), NOWHERE)
    finally:
        with open_engine(empty_storage_url).begin() as connection:
            connection.execute(text("DROP ROLE guest"))


def test_user_named_like_our_schema_can_migrate(empty_storage_url: str, postgres_admin: Engine) -> None:
    """PostgreSQL looks in the schema of the user's name first, where Optuna would find our version table."""
    with postgres_admin.connect() as connection:
        if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = 'hpo'")) is None:
            connection.execute(text("CREATE ROLE hpo LOGIN SUPERUSER"))
    url = make_url(empty_storage_url).set(username="hpo").render_as_string(hide_password=False)
    for _ in range(2):
        with open_database(url, Path("unused")) as database:
            assert database.optuna.get_all_studies() == []
