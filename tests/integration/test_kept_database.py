"""The database that tests use one after another is as if it were new, or is used no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from sqlalchemy import Engine, event, text

from tests.integration.rows import StudyRows, finished_study
from tests.kept_database import MOST_ROWS, KeptDatabase


@pytest.fixture
def kept(postgres_admin: Engine, migrated_template: str) -> Iterator[KeptDatabase]:
    made = KeptDatabase(postgres_admin, migrated_template)
    made.lend()
    yield made
    made.drop()


def execute(kept: KeptDatabase, sql: str) -> None:
    kept.opened.transaction(lambda connection: connection.execute(text(sql)))


def test_next_test_finds_no_rows_and_the_first_ids(kept: KeptDatabase) -> None:
    first = finished_study(kept.opened)
    assert kept.empty()
    kept.lend()
    assert kept.opened.optuna.get_all_studies() == []
    second = StudyRows(kept.opened)
    assert second.study_id == first.study_id
    assert second.study.get_trials() == []
    assert second.trial() == 1
    assert kept.empty()


def listen(kept: KeptDatabase) -> None:
    event.listen(kept.opened.engine, "commit", lambda _: None)


LEFT: dict[str, Callable[[KeptDatabase], object]] = {
    "table": lambda kept: execute(kept, "CREATE TABLE left_behind (x int)"),
    "column": lambda kept: execute(kept, "ALTER TABLE hpo.studies ADD left_behind int"),
    "constraint": lambda kept: execute(kept, "ALTER TABLE hpo.studies ADD CHECK (budget < 7)"),
    "trigger": lambda kept: execute(kept, "ALTER TABLE public.trials DISABLE TRIGGER ALL"),
    "revision": lambda kept: execute(kept, "UPDATE hpo.alembic_version SET version_num = '9999'"),
    "setting": lambda kept: execute(
        kept, "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET jit = off', current_database()); END$$"
    ),
    "many rows": lambda kept: execute(
        kept, f"INSERT INTO public.studies (study_name) SELECT n FROM generate_series(0, {MOST_ROWS}) n"
    ),
    "listener": listen,
    "closed": lambda kept: kept.opened.close(),
}


@pytest.mark.parametrize("left", LEFT)
def test_what_is_left_behind_but_rows_ends_its_use(kept: KeptDatabase, left: str) -> None:
    LEFT[left](kept)
    assert not kept.empty()


def test_thread_that_runs_on_ends_its_use(kept: KeptDatabase) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not kept.empty()
    finally:
        done.set()
        thread.join()


def test_connection_that_stays_open_ends_its_use(kept: KeptDatabase) -> None:
    connection = psycopg2.connect(kept.url.replace("+psycopg2", ""))
    try:
        assert not kept.empty()
    finally:
        connection.close()
