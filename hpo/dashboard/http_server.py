"""The HTTP server of the dashboard: waitress, with bounds on the resources of clients without a password."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS = 8
"""Number of requests answered at the same time."""
CLOSING_SECONDS = 1
"""Seconds to wait for unfinished answers at shutdown."""
BODY_BYTES = 256 * 1024
"""Size from which a body is refused: the longest that is accepted is a note."""
HEADER_BYTES = 32 * 1024
"""Size from which headers are refused."""
REQUEST_SECONDS = 10
"""Seconds in which a request must have arrived, and after which a connection is closed if it is idle or its client
reads nothing of an answer."""
CONNECTIONS = 200
"""Number of open connections above which a new one replaces the oldest that has no complete request."""

Accepts = Callable[[str, str, str], bool]
"""Function of method, path and `Authorization` header: whether the body of such a request is received."""


class _Parser(HTTPRequestParser):
    """Receives the bodies of accepted requests only; others are answered without."""

    accepts: Accepts
    command: Any
    path: Any
    error: Any

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        begins = self.headers_finished and not self.completed and not self.body_bytes_received
        if begins and self.chunked and "CONTENT_LENGTH" in self.headers:
            # A proxy may end the body by the other of the two, and take the rest for another user's request.
            self.error = BadRequest("Content-Length and Transfer-Encoding exclude each other")
            self._drop_body()
        elif begins and not self.accepts(self.command, self.path, self.headers.get("AUTHORIZATION", "")):
            self._drop_body()
        return consumed

    def _drop_body(self) -> None:
        self.body_rcv, self.content_length, self.chunked = None, 0, False
        # The rest of the connection is the body.
        self.headers = {**self.headers, "CONTENT_LENGTH": "0", "CONNECTION": "close"}
        self.connection_close, self.expect_continue, self.completed = True, False, True


class _Channel(HTTPChannel):
    """A connection that knows since when it has been waiting for a complete request."""

    waiting_since = 0.0

    def received(self, data: bytes) -> bool:
        waiting = self.request is not None
        done: bool = super().received(data)
        if self.request is None or not waiting:
            self.waiting_since = time.time()
        return done

    @property
    def age(self) -> float:
        """Seconds for which it has had no complete request."""
        return time.time() - max(self.creation_time, self.waiting_since)

    def reset(self) -> None:
        """Close the connection at once, and drop answers that the kernel still holds for it."""
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()


class _Server(TcpWSGIServer):
    """Closes connections whose request does not arrive, also those that send a byte now and then, or whose answer is
    not read."""

    active_channels: Any

    def maintenance(self, now: int) -> None:
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            if channel.total_outbufs_len:
                # At once: its client does not read, and `will_close` waits until it does.
                if time.time() - channel.last_activity > REQUEST_SECONDS:
                    channel.reset()
            elif not channel.requests and channel.age > REQUEST_SECONDS:
                channel.will_close = True

    def handle_accept(self) -> None:
        super().handle_accept()
        idle = [one for one in self.active_channels.values() if not one.requests]
        if len(self.active_channels) > CONNECTIONS and idle:
            # Answers that are being sent are the last to be cut off.
            max(idle, key=lambda channel: (not channel.total_outbufs_len, channel.age)).reset()


class _Dispatcher(ThreadedTaskDispatcher):
    """Answers health checks in a thread of their own, so that long answers do not delay them."""

    def __init__(self, health: str) -> None:
        super().__init__()
        self._health_path, self._health = health, ThreadedTaskDispatcher()
        self.set_thread_count(THREADS)
        self._health.set_thread_count(1)

    def add_task(self, task: Any) -> None:
        request = task.requests[0] if task.requests else None
        if request is not None and request.error is None and request.path == self._health_path:
            self._health.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = CLOSING_SECONDS) -> bool:
        self._health.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


def create_server(
    app: WSGIApplication, listening: list[socket.socket], accepts: Accepts, health: str
) -> MultiSocketServer:
    """Return a server on listening sockets; `health` is the path of health checks."""
    # Waitress warns of queued requests and of shutdowns during an answer, which are normal here.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    parser = type("Parser", (_Parser,), {"accepts": staticmethod(accepts)})
    channel = type("Channel", (_Channel,), {"parser_class": parser})
    server = type("Server", (_Server,), {"channel_class": channel})
    adjustments = Adjustments(
        ident=None,
        clear_untrusted_proxy_headers=True,
        max_request_body_size=BODY_BYTES,
        max_request_header_size=HEADER_BYTES,
        channel_timeout=REQUEST_SECONDS,
        cleanup_interval=1,
        # Never reached: connections are closed from `CONNECTIONS` on.
        connection_limit=10 * CONNECTIONS,
        asyncore_use_poll=True,
        sockets=listening,
    )
    dispatcher, map_of_sockets = _Dispatcher(health), dict[int, Any]()
    for one in listening:
        server(
            app,
            map_of_sockets,
            True,
            one,
            dispatcher=dispatcher,
            adj=adjustments,
            bind_socket=False,
            sockinfo=(one.family, one.type, one.proto, one.getsockname()),
        )
    return MultiSocketServer(map_of_sockets, adjustments, [], dispatcher, logging.getLogger("waitress").info)
