"""Statements that connections prepare, on a real server."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from storage.connection import prepared as module
from storage.connection.autocommit import autocommitting
from storage.connection.prepared import prepared
from storage.engine import Connection, Database

TWICE = prepared("SELECT CAST(:n AS integer) % 7 AS rest, CAST(:n AS integer) + CAST(:m AS integer) AS sum")
SEVERAL = prepared(
    "INSERT INTO numbers SELECT CAST(:n AS integer);SELECT count(*) AS n FROM numbers WHERE n >= :n"
)


def names(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT name FROM pg_prepared_statements")).scalars())


def test_parameters_may_occur_often_and_a_percent_sign_is_one(database: Database) -> None:
    with database.engine.connect() as connection:
        for n in range(12):
            row = connection.execute(TWICE, {"n": n, "m": 1}).one()
            assert (row.rest, row.sum) == (n % 7, n + 1)
        assert names(connection) == {"hpo_0_0"}


def test_each_of_several_statements_sees_the_one_before(database: Database) -> None:
    with autocommitting(database.engine) as connection:
        connection.execute(text("CREATE TEMPORARY TABLE numbers (n integer)"))
        counts = [connection.execute(SEVERAL, {"n": n}).scalar_one() for n in (5, 5, 9, 1)]
        assert counts == [1, 2, 1, 4]
        assert names(connection) == {"hpo_0_0", "hpo_0_1"}


def test_statements_that_are_not_marked_are_not_prepared(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT CAST(:n AS integer)"), {"n": 3}).scalar_one() == 3
        assert names(connection) == set()


def test_plans_are_made_again_after_many_uses(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_USES", 3)
    prepared_at = "SELECT prepare_time FROM pg_prepared_statements"
    with autocommitting(database.engine) as connection:
        times = []
        for n in range(7):
            connection.execute(TWICE, {"n": n, "m": 1})
            times.append(connection.execute(text(prepared_at)).scalar_one())
    assert len(set(times)) == 3


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize(
    ("damage", "sum_type"),
    [
        ("DEALLOCATE ALL", "integer"),
        ("ALTER TABLE numbers ALTER n TYPE bigint", "bigint"),
    ],
)
def test_statement_that_another_has_changed_is_prepared_again(
    database: Database, in_transaction: bool, damage: str, sum_type: str
) -> None:
    run = database.transaction if in_transaction else database.statement
    read = prepared("SELECT n + CAST(:m AS integer) AS sum, CAST(pg_typeof(n) AS text) AS type FROM numbers")
    try:
        database.transaction(lambda c: c.execute(text("CREATE TABLE numbers AS SELECT 1 AS n")))
        assert run(lambda c: tuple(c.execute(read, {"m": 2}).one())) == (3, "integer")
        database.transaction(lambda c: c.execute(text(damage)))
        assert run(lambda c: tuple(c.execute(read, {"m": 4}).one())) == (5, sum_type)
        assert run(lambda c: tuple(c.execute(read, {"m": 5}).one())) == (6, sum_type)
    finally:
        database.transaction(lambda c: c.execute(text("DROP TABLE IF EXISTS numbers")))


def test_name_that_another_has_taken_is_freed(database: Database) -> None:
    database.transaction(lambda c: c.execute(text("PREPARE hpo_0_0 AS SELECT 1")))
    assert database.statement(lambda c: c.execute(TWICE, {"n": 8, "m": 2}).one().sum) == 10
