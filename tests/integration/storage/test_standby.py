"""A server that refuses to write for a while, as during a failover."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from hpo.errors import StorageUrlError
from storage.connection.retry import Retry
from storage.engine import Database
from storage.opening import open_database
from tests.integration.storage.conftest import Waits


def test_read_only_server_is_unreachable(database: Database, postgres_admin: Engine) -> None:
    name = make_url(database.url).database
    warnings: list[str] = []

    def take_over(error: BaseException, _seconds: float) -> None:
        """Another server is promoted: new connections may write."""
        warnings.append(str(error))
        with postgres_admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))

    with postgres_admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    database.engine.dispose()
    database.transaction(
        lambda c: c.execute(text("CREATE TABLE written (n integer)")),
        Retry(patience_seconds=30.0, first_delay=0.01, on_wait=take_over),
    )
    assert len(warnings) == 1
    assert "read-only" in warnings[0]


@pytest.mark.parametrize("migrated", [True, False])
def test_server_that_is_read_only_from_the_start_is_named_at_once(
    postgres_admin: Engine, request: pytest.FixtureRequest, migrated: bool, waits: Waits
) -> None:
    """A standby, or a cluster's endpoint for readers."""
    url = request.getfixturevalue("storage_url" if migrated else "empty_storage_url")
    with postgres_admin.connect() as connection:
        connection.execute(
            text(f'ALTER DATABASE "{make_url(url).database}" SET default_transaction_read_only = on')
        )
    with pytest.raises(StorageUrlError, match=r"^the database at .* is read-only \(cannot execute .*primary"):
        _read_and_write(url)
    assert waits.seconds == 0


def _read_and_write(url: str) -> None:
    with open_database(url, Path("unused")) as database:
        assert database.transaction(lambda c: c.scalar(text("SELECT count(*) FROM hpo.studies"))) == 0
        database.transaction(lambda c: c.execute(text("DELETE FROM hpo.studies")))
