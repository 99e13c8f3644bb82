"""A service for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.acceptance.fork_server import ForkServer
from tests.acceptance.hpo_commands import DRAWING_MODULES, KERAS, MODULES, HpoCommands
from tests.acceptance.service import Service
from tests.conftest import forking
from tests.databases import has_database, new_database, url_of
from tests.locks import locked
from tests.version_0_1 import FOLDER, copy_checkpoints


@pytest.fixture(scope="session")
def commands(server_folder: Path) -> Iterator[HpoCommands]:
    """Processes that fork `hpo` commands."""
    commands = HpoCommands(server_folder)
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def keras_commands() -> Iterator[ForkServer]:
    """The process of the commands whose templates find Keras imported: it forks other scripts too."""
    yield from forking(*MODULES, *KERAS)


@pytest.fixture(scope="session")
def drawing_commands() -> Iterator[ForkServer]:
    """The process of the commands that draw: it forks other scripts too."""
    yield from forking(*MODULES, *DRAWING_MODULES)


@pytest.fixture(scope="session")
def commands_with_keras(server_folder: Path) -> Iterator[HpoCommands]:
    """Processes that fork `hpo` commands whose templates find Keras imported."""
    commands = HpoCommands(server_folder, KERAS)
    yield commands
    commands.close()


@pytest.fixture
def keras_service(tmp_path: Path, storage_url: str, commands_with_keras: HpoCommands) -> Iterator[Service]:
    """A service whose templates find Keras imported."""
    yield from _serve(tmp_path, storage_url, commands_with_keras)


@pytest.fixture
def service(tmp_path: Path, storage_url: str, commands: HpoCommands) -> Iterator[Service]:
    """A service on a migrated database; the test fails if one of its processes survives."""
    yield from _serve(tmp_path, storage_url, commands)


@pytest.fixture(scope="session")
def searched_template(
    postgres_admin: Engine, migrated_template: str, server_folder: Path, commands: HpoCommands
) -> str:
    """The name of a database with a study whose trial is complete, searched once and copied for each test."""
    made = "searched"
    with locked(server_folder / "searched.lock"), postgres_admin.connect() as connection:
        if not has_database(connection, made):
            connection.execute(text("DROP DATABASE IF EXISTS searching WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE searching TEMPLATE {migrated_template}"))
            with tempfile.TemporaryDirectory() as folder:
                for service in _serve(Path(folder), url_of(postgres_admin, "searching"), commands):
                    service.launched("Counted", "--trials", 1, "--workers", 1).clean()
            connection.execute(text(f"ALTER DATABASE searching RENAME TO {made}"))
    return made


@pytest.fixture
def searched(
    tmp_path: Path, postgres_admin: Engine, searched_template: str, commands: HpoCommands
) -> Iterator[Service]:
    """A service whose study has a complete trial of `Counted`."""
    for url in new_database(postgres_admin, searched_template):
        yield from _serve(tmp_path, url, commands)


@pytest.fixture
def fresh_service(tmp_path: Path, empty_storage_url: str, commands: HpoCommands) -> Iterator[Service]:
    """A service on a database without tables."""
    yield from _serve(tmp_path, empty_storage_url, commands)


@pytest.fixture
def old_service(tmp_path: Path, old_storage_url: str, commands: HpoCommands) -> Iterator[Service]:
    """Return a service on a database of version 0.1, with the checkpoints and the objectives of its user."""
    yield from _serve_old(tmp_path, old_storage_url, commands)


@pytest.fixture
def old_keras_service(
    tmp_path: Path, old_storage_url: str, commands_with_keras: HpoCommands
) -> Iterator[Service]:
    """The same, whose templates find Keras imported."""
    yield from _serve_old(tmp_path, old_storage_url, commands_with_keras)


@pytest.fixture
def moved_service(tmp_path: Path, empty_storage_url: str, commands: HpoCommands) -> Iterator[Service]:
    """Return a service on an empty database, with the checkpoints and the objectives of a user of version 0.1."""
    yield from _serve_old(tmp_path, empty_storage_url, commands)


def _serve_old(folder: Path, url: str, commands: HpoCommands) -> Iterator[Service]:
    copy_checkpoints(folder / "checkpoints")
    for service in _serve(folder, url, commands):
        service.set(PYTHONPATH=FOLDER, PYTHONDONTWRITEBYTECODE=1)
        yield service


def _serve(folder: Path, url: str, commands: HpoCommands) -> Iterator[Service]:
    service = Service(folder, url, commands)
    try:
        yield service
    finally:
        survivors = service.close()
    assert not survivors, "processes outlived their agent: " + "; ".join(survivors)
