"""A server that refuses to write for a while, as during a failover."""

from __future__ import annotations

from sqlalchemy import Engine, make_url, text

from storage.connection.retry import Retry
from storage.engine import Database


def test_read_only_server_is_unreachable(database: Database, postgres_admin: Engine) -> None:
    name = make_url(database.url).database
    told: list[str] = []

    def take_over(error: BaseException, _seconds: float) -> None:
        """Another server is promoted: new connections may write."""
        told.append(str(error))
        with postgres_admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))

    with postgres_admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    database.engine.dispose()
    database.transaction(
        lambda c: c.execute(text("CREATE TABLE written (n integer)")),
        Retry(patience_seconds=30.0, first_delay=0.01, on_wait=take_over),
    )
    assert len(told) == 1
    assert "read-only" in told[0]
