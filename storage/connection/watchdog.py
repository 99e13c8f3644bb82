"""Abort calls to a server that stops responding without closing its connection.

Keepalives and `tcp_user_timeout` detect a host that is gone. They do not detect a proxy that keeps
acknowledging for a server it has lost, and libpq waits for it without end. So a thread checks which
connections are in a call, and shuts down one whose call takes longer than any statement may: the call fails
as if the server had closed the connection, and is retried on a new one.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE
from sqlalchemy import Engine, event


class ConnectionWatchdog:
    """Watches all connections of some engines."""

    def __init__(self) -> None:
        self._sent_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        """Time of the last statement sent on each connection."""
        self._lock = threading.Lock()
        self._seconds = math.inf
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, engine: Engine) -> None:
        """Track every connection of this engine; idle ones are replaced by new ones."""
        # Before SQLAlchemy's own listener, which already queries the server.
        event.listen(engine, "connect", lambda connection, _: self._record(connection), insert=True)
        event.listen(engine, "before_cursor_execute", lambda _, cursor, *__: self._record(cursor.connection))
        engine.dispose()

    def _record(self, connection: Any) -> None:
        with self._lock:
            self._sent_at[connection] = time.monotonic()

    def watch(self, seconds: float) -> None:
        """Abort calls that take longer than `seconds` from now on."""
        self._seconds = seconds
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="connection-watchdog", daemon=True)
            self._thread.start()

    @contextmanager
    def allowing(self, seconds: float) -> Iterator[None]:
        """Allow calls to take up to `seconds` in this block."""
        before, self._seconds = self._seconds, seconds
        try:
            yield
        finally:
            self._seconds = before

    def close(self) -> None:
        """Stop watching."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        waiting: dict[int, float] = {}
        while not self._done.wait(min(1.0, self._seconds / 4)):
            now = time.monotonic()
            with self._lock:
                sent_at = dict(self._sent_at)
            busy = [connection for connection in sent_at if _is_waiting(connection)]
            waiting = {id(connection): waiting.get(id(connection), now) for connection in busy}
            for connection in busy:
                # Many quick statements look like one long call, and a commit after a pause as if it took the pause.
                since = max(waiting[id(connection)], sent_at[connection])
                if now - since > self._seconds:
                    _shut(connection)


def _is_waiting(connection: Any) -> bool:
    """Whether a call is in progress, according to libpq's own state, without a query."""
    try:
        return bool(connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE)
    except Exception:  # noqa: BLE001 - the owning thread is closing it
        return False


def _shut(connection: Any) -> None:
    """Shut the connection down for its caller; the driver still closes the descriptor itself."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
