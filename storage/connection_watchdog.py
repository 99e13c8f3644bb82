"""Ends calls to a server that has fallen silent without closing its connection.

Keepalives find a host that is gone. They do not find a proxy that goes on acknowledging for a server it has
lost, and libpq waits for such a one for ever. So a thread looks which connections are in the midst of a
call, and shuts one that is for longer than any statement may take: its call fails as if the server had
closed it, and is tried again on a new one.
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


class Connections:
    """All connections of some engines, in use or not."""

    def __init__(self) -> None:
        self._asked: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        """When each was last sent a statement."""
        self._lock = threading.Lock()
        self._seconds = math.inf
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, engine: Engine) -> None:
        """Know every connection of this engine; those it has idle are made anew."""
        # Before SQLAlchemy's own listener, which asks the server for something already.
        event.listen(engine, "connect", lambda connection, _: self._asked_by(connection), insert=True)
        event.listen(
            engine, "before_cursor_execute", lambda _, cursor, *__: self._asked_by(cursor.connection)
        )
        engine.dispose()

    def _asked_by(self, connection: Any) -> None:
        with self._lock:
            self._asked[connection] = time.monotonic()

    def watch(self, seconds: float) -> None:
        """From now on no call waits for longer than so many seconds."""
        self._seconds = seconds
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="silence", daemon=True)
            self._thread.start()

    @contextmanager
    def allowing(self, seconds: float) -> Iterator[None]:
        """Within this block a call may take so long."""
        before, self._seconds = self._seconds, seconds
        try:
            yield
        finally:
            self._seconds = before

    def close(self) -> None:
        """Watch no longer."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        waiting: dict[int, float] = {}
        while not self._done.wait(min(1.0, self._seconds / 4)):
            now = time.monotonic()
            with self._lock:
                asked = dict(self._asked)
            busy = [connection for connection in asked if _is_waiting(connection)]
            waiting = {id(connection): waiting.get(id(connection), now) for connection in busy}
            for connection in busy:
                # Many quick statements look like one long one, and a commit after a pause like one that took the pause.
                since = max(waiting[id(connection)], asked[connection])
                if now - since > self._seconds:
                    _shut(connection)


def _is_waiting(connection: Any) -> bool:
    """Whether it has been sent a statement and has not answered whole; asks libpq's memory, not the server."""
    try:
        return bool(connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE)
    except Exception:  # noqa: BLE001 - it is being closed by the thread it belongs to
        return False


def _shut(connection: Any) -> None:
    """Have its call find the connection closed; the descriptor itself stays the driver's to close."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
