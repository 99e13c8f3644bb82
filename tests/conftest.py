"""A real PostgreSQL for the whole suite, and a fresh, migrated database for each test that asks for one."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text

from storage.embedded.server import EmbeddedServer
from storage.engine import Database
from storage.opening import open_database
from tests.acceptance import fork_server
from tests.acceptance.fork_server import ForkServer
from tests.databases import has_database, new_database, url_of
from tests.locks import locked
from tests.version_0_1 import load_dump

TEMPLATE = "hpo_template"

PARTS = "hpo.document.parts"
"""Logger of parts that are left out of documents."""

FOLDER = "SUITE_FOLDER"
"""Environment variable with the folder of a run, which all its workers and their child processes share."""

PREFIX = "hpo-tests-"
MEMORY = "/dev/shm"
ROOM_BYTES = 4 << 30
"""Least room in memory for the folder of a run, which holds about 1 GB."""


# Modules and collected tests stay for good: looking for garbage among them as often as Python does takes a twelfth of
# the run.
gc.set_threshold(100_000, 20, 100)


# `nohup` and shells that run a job in the background have it ignore these signals, and child processes inherit
# that. They do not inherit a handler, so the commands that a test starts react to signals as in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of a run, in the process that starts the workers."""
    if hasattr(config, "workerinput"):
        return
    # As Ctrl-C does, so that the run still cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.register_at_fork(after_in_child=_die_of_sigterm)
    # pytest keeps its own folders, for you to look into after a failure.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    _remove_folders_of_killed_runs()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_parent_of_folder()))
    # Open to all, unlike pytest's folders: root's server runs as another user.
    folder.chmod(0o755)
    os.environ[FOLDER] = str(folder)
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    # Most of the time of tests on JAX is that of compiling the same programs again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_collection_finish() -> None:
    """Leave the collected tests and their modules out of later searches for garbage, which runs of Keras ask for."""
    gc.collect()
    gc.freeze()


def _parent_of_folder() -> str:
    """Return a folder in memory where there is room: the 300 files of a new database take ten times as long on disk."""
    with suppress(OSError):
        memory = os.statvfs(MEMORY)
        room = memory.f_bavail * memory.f_frsize > ROOM_BYTES and not memory.f_flag & os.ST_NOEXEC
        if room and os.access(MEMORY, os.W_OK | os.X_OK):
            return MEMORY
    # The path of a Unix socket in it must not exceed 107 bytes.
    return tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp"


def _remove_folders_of_killed_runs() -> None:
    """Free the memory of runs that were killed, whose servers end without their folders."""
    for folder in Path(MEMORY).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError):
            if pid.isdigit() and folder.stat().st_uid == os.geteuid() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(folder)


def _die_of_sigterm() -> None:
    """Restore the default in a forked process."""
    if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """End processes and remove temporary files that a run has left behind; only one that was interrupted may do so."""
    try:
        yield
    finally:
        if not hasattr(session.config, "workerinput"):
            _clean_up(session, exitstatus)


def _clean_up(session: pytest.Session, exitstatus: int) -> None:
    folder = Path(os.environ.pop(FOLDER))
    # TensorFlow removes its own when the process ends.
    files = [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("__")]
    # They end with the last test process that they serve.
    forking = [one for one, line in _processes_of(folder).items() if fork_server.__name__ in line]
    psutil.wait_procs(forking, timeout=10.0)
    left = [*_end_processes_of(folder), *files]
    shutil.rmtree(folder, ignore_errors=True)
    if left and exitstatus != pytest.ExitCode.INTERRUPTED:
        print("\nThe tests left behind:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _end_processes_of(folder: Path) -> list[str]:
    """End the living processes of this run but this one, and return their command lines."""
    found: dict[psutil.Process, str] = {}
    # A process that is ending may have started another one meanwhile.
    for _ in range(5):
        if not (living := _processes_of(folder)):
            break
        found |= living
        for process in living:
            with suppress(psutil.Error):
                # PostgreSQL ends at once, and removes its shared memory.
                process.send_signal(signal.SIGQUIT if process.name() == "postgres" else signal.SIGKILL)
        for process in psutil.wait_procs(living, timeout=10.0)[1]:
            with suppress(psutil.Error):
                process.kill()
    return list(found.values())


def _processes_of(folder: Path) -> dict[psutil.Process, str]:
    """Return the living processes of this run but this one, with their command lines."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            of_run = process.pid != os.getpid() and process.environ().get(FOLDER) == str(folder)
            if of_run and process.status() != psutil.STATUS_ZOMBIE:
                found[process] = f"{process.pid} {' '.join(process.cmdline())}"
    return found


@pytest.fixture(autouse=True)
def _log_of_hpo() -> Iterator[None]:
    """Restore the logger that a command configures when a test runs it in this process."""
    logger = logging.getLogger("hpo")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture(scope="session")
def keras_commands() -> Iterator[ForkServer]:
    """A process that forks scripts that train or evaluate a model."""
    yield from forking("keras", "tensorflow")


def forking(*modules: str) -> Iterator[ForkServer]:
    """Use the run's process that has imported `modules`, and forks commands."""
    server = ForkServer(modules, Path(os.environ[FOLDER]))
    yield server
    server.close()


@pytest.fixture(scope="session")
def server_folder() -> Path:
    """The folder of the run's PostgreSQL, shared by all workers and removed at the end."""
    return Path(os.environ[FOLDER])


@pytest.fixture
def open_folder(server_folder: Path) -> Iterator[Path]:
    """An empty folder for one test, open to all as `server_folder` is."""
    folder = Path(tempfile.mkdtemp(dir=server_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[EmbeddedServer]:
    """The run's PostgreSQL: the first worker starts it, and the last one stops it."""
    with EmbeddedServer.start(server_folder / "home", root_base=server_folder / "root") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: EmbeddedServer) -> Iterator[Engine]:
    """An engine for CREATE and DROP DATABASE, which cannot run in a transaction."""
    # Its connection is kept: each test needs it twice, and opening one takes longer than what it does.
    engine = create_engine(postgres_server.url, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def migrated_template(postgres_admin: Engine, server_folder: Path) -> str:
    """The name of a database with all tables, migrated once and copied for each test."""
    with locked(server_folder / "template.lock"):
        with postgres_admin.connect() as connection:
            if has_database(connection, TEMPLATE):
                return TEMPLATE
            # No test needs its data after a crash of the machine.
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
            connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
        open_database(url_of(postgres_admin, TEMPLATE), Path("unused")).close()
    return TEMPLATE


@pytest.fixture
def empty_storage_url(postgres_admin: Engine) -> Iterator[str]:
    """The URL of a new database without any table."""
    yield from new_database(postgres_admin, "template1")


@pytest.fixture
def storage_url(postgres_admin: Engine, migrated_template: str) -> Iterator[str]:
    """The URL of a new database with all tables."""
    yield from new_database(postgres_admin, migrated_template)


@pytest.fixture(scope="session")
def old_template(postgres_admin: Engine) -> str:
    """The name of a database as version 0.1 left it, loaded once and copied for each test."""
    # Test processes that share a server each have one.
    name = f"old_{uuid.uuid4().hex}"
    with postgres_admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    load_dump(url_of(postgres_admin, name))
    return name


@pytest.fixture
def old_storage_url(postgres_admin: Engine, old_template: str) -> Iterator[str]:
    """The URL of a new database with the tables and the studies of version 0.1."""
    yield from new_database(postgres_admin, old_template)


@pytest.fixture(scope="module")
def shared_old_storage_url(postgres_admin: Engine, old_template: str) -> Iterator[str]:
    """The same for tests that only read, and so may share it."""
    yield from new_database(postgres_admin, old_template)


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    with open_database(storage_url, Path("unused")) as opened:
        yield opened


@pytest.fixture
def complete_documents(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose documents lack a part; one that breaks parts clears the log."""
    yield
    left_out = [record.getMessage() for record in caplog.get_records("call") if record.name == PARTS]
    assert left_out == []


@pytest.fixture
def thirds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let freeze-thaw judge after a ninth and a third of the epochs, of which one in three trials goes on."""
    from tests.specs import THIRDS

    monkeypatch.setattr("hpo.search.freeze_thaw.LEVELS", THIRDS)
