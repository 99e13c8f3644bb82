"""A real PostgreSQL for the whole suite, and a fresh, migrated database for each test that asks for one."""

from __future__ import annotations

import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from storage.embedded.server import EmbeddedServer
from storage.engine import Database, open_database

TEMPLATE = "hpo_template"

# How long an example takes is this machine's affair, and what failed before is kept in no folder of the project's.
settings.register_profile("suite", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


# A job in the background of a script ignores Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder open to all: root's server runs as another user, whom pytest's own 0700 folders keep out."""
    folder = Path(tempfile.mkdtemp(prefix="hpo-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def open_folder(server_folder: Path) -> Iterator[Path]:
    """An empty folder of one test's own, open to all as `server_folder` is."""
    folder = Path(tempfile.mkdtemp(dir=server_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[EmbeddedServer]:
    """The suite's PostgreSQL."""
    with EmbeddedServer.start(server_folder / "home", root_base=server_folder / "root") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: EmbeddedServer) -> Iterator[Engine]:
    """For CREATE and DROP DATABASE, which no transaction may hold."""
    engine = create_engine(postgres_server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def migrated_template(postgres_admin: Engine) -> str:
    """The name of a database with all tables, migrated once and copied for each test."""
    with postgres_admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
    open_database(_url(postgres_admin, TEMPLATE), Path("unused")).close()
    return TEMPLATE


@pytest.fixture
def empty_storage_url(postgres_admin: Engine) -> Iterator[str]:
    """The URL of a new database without any table."""
    yield from _new_database(postgres_admin, "template1")


@pytest.fixture
def storage_url(postgres_admin: Engine, migrated_template: str) -> Iterator[str]:
    """The URL of a new database with all tables."""
    yield from _new_database(postgres_admin, migrated_template)


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, Path("unused")) as opened:
        yield opened


def _new_database(admin: Engine, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield _url(admin, name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _url(admin: Engine, name: str) -> str:
    return make_url(str(admin.url)).set(database=name).render_as_string(hide_password=False)
