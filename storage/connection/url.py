"""Parse and display storage URLs, and set the options of their connections."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Any

import psycopg2
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from hpo.errors import StorageUrlError
from storage.redaction import passwords_given, redacted

EXAMPLE = "postgresql://user:password@host:5432/database"
REMEDY = f"leave --storage out to use the embedded PostgreSQL, or give {EXAMPLE}"

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
IDLE_TRANSACTION_SECONDS = 60
UNCHECKED_SECONDS = 1.0
"""Time since its last use after which a connection is checked before the next: one round trip. A connection that is
lost earlier fails in its use, which is retried."""

_USED_AT = "hpo_used_at"
_DRIVERS = {"postgresql", "postgres", "postgresql+psycopg2"}
_SECRETS = {"password", "sslpassword", "passfile"}
_REFUSED = {
    "sqlite": "SQLite locks the whole file for each write, and Optuna advises against it for parallel trials",
    "mysql": "only PostgreSQL is supported, because locks and leases depend on it",
    "redis": "Optuna's Redis storage is a journal, which has neither the locks nor the leases needed here",
    "journal": "a journal file has neither the locks nor the leases needed here",
}


def parse_url(text: str) -> URL:
    """Return the PostgreSQL URL in `text`, for psycopg2; raises StorageUrlError, which never repeats `text`."""
    scheme, separator, _ = text.strip().partition("://")
    scheme = scheme.lower()
    if not separator:
        if re.search(r"[/\\]|\.(log|journal|db|sqlite3?)$|^journal:", text.strip(), re.IGNORECASE):
            raise _refused("a file", "journal")
        raise StorageUrlError(f"the storage is not a URL: {REMEDY}")
    if scheme not in _DRIVERS:
        shown = scheme if re.fullmatch(r"[a-z0-9+.]{1,30}", scheme) else "something else"
        kind = scheme.partition("+")[0]
        raise _refused(shown, {"mariadb": "mysql", "rediss": "redis"}.get(kind, kind))
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        # Neither the cause nor its text: they may hold the password.
        raise StorageUrlError(f"the storage URL is malformed: {REMEDY}") from None
    if "@" in f"{url.host}{url.database}":
        raise StorageUrlError(
            "the storage URL is ambiguous: percent-encode special characters in the password (@ as %40)"
        )
    if not url.database:
        raise StorageUrlError(f"the storage URL names no database: write it like {EXAMPLE}")
    return url.set(drivername="postgresql+psycopg2")


def _refused(shown: str, kind: str) -> StorageUrlError:
    reason = _REFUSED.get(kind, "only PostgreSQL is supported")
    return StorageUrlError(f"the storage cannot be {shown} ({reason}): {REMEDY}")


def shown_url(url: URL) -> str:
    """The URL as a user writes it, without the driver, and without its secrets."""
    hidden = {name: "***" for name in url.query if name in _SECRETS}
    return (
        url.set(drivername=url.get_backend_name())
        .update_query_dict(hidden)
        .render_as_string(hide_password=True)
        .replace("%2F", "/")
    )


def full_url(url: URL) -> str:
    """The URL with its password, for Optuna; never print it."""
    return url.render_as_string(hide_password=False)


def target(url: URL) -> str:
    """Host and port, or the socket's folder, for messages."""
    host = url.host or url.query.get("host") or "the local socket"
    host = host if isinstance(host, str) else ",".join(host)
    return host if host.startswith(("/", "the ")) else f"{host}:{url.port or url.query.get('port') or 5432}"


def without_secrets(text: str, url: URL) -> str:
    """Return `text` with every secret of `url` masked."""
    return redacted(text, passwords_given([full_url(url)], {}))


def engine_options(url: URL) -> dict[str, Any]:
    """Return `create_engine` options for `url`; its query string overrides ours.

    Settings of the session are not sent in the startup message, because poolers such as PgBouncer refuse it then.
    """
    session = {
        "timezone": "UTC",
        # PostgreSQL's default looks in a schema of the user's name first: for a user called `hpo`, Optuna
        # would take our version table for its own.
        "search_path": "public",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        # A claim waits for its lock, and must then see all that was committed meanwhile.
        "default_transaction_isolation": "read committed",
        # A suspended agent must not hold its row locks for ever.
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_SECONDS}s",
    }
    defaults = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "hpo",
        # Detect a host that vanishes within half a minute.
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    given = url.query.get("options", "")
    given = given if isinstance(given, str) else " ".join(given)
    named = {name.replace("-", "_").lower() for name in re.findall(r"(?:-c\s*|--)([\w.-]+)=", given)}
    ours = {name: value for name, value in session.items() if name not in named}
    return {
        # No table has such a column, and each new connection would ask for the type first.
        "use_native_hstore": False,
        "pool_size": 3,
        "max_overflow": 2,
        "pool_timeout": 30,
        "connect_args": arguments,
        "pool_events": [
            (partial(_set_session, ours), "connect"),
            (_note_use, "checkin"),
            (_check_idle, "checkout"),
        ],
    }


def _set_session(settings: dict[str, str], connection: Any, _record: object) -> None:
    """Apply `settings` to a new connection in one round trip."""
    if not settings:
        return
    connection.autocommit = True
    with connection.cursor() as cursor:
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        cursor.execute(f"SELECT {calls}", [text for pair in settings.items() for text in pair])
    connection.autocommit = False


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED_AT] = time.monotonic()


def _check_idle(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Let the pool replace a connection that was lost while it was idle."""
    used_at = record.info.get(_USED_AT)
    if used_at is None or time.monotonic() - used_at <= UNCHECKED_SECONDS:
        return
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.autocommit = False
    except psycopg2.Error as exc:
        raise DisconnectionError("the connection was lost while it was idle") from exc
