"""A TCP proxy of a PostgreSQL socket that can be cut, so that one agent loses the database and others do not."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from pathlib import Path


class Proxy:
    """Forwards a loopback port to a Unix socket until it is cut."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._generation = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def is_cut(self) -> bool:
        return not self._open.is_set()

    def cut(self) -> None:
        """Drop all data without notice, as when a cable is pulled."""
        self._open.clear()

    def silence(self) -> None:
        """Drop data on present connections, which stay open; new ones pass."""
        self._generation += 1

    def heal(self) -> None:
        """Let new connections pass, and close the previous ones."""
        with self._lock:
            for pair in self._pairs:
                _shut(*pair)
            self._pairs.clear()
        self._open.set()

    def close(self) -> None:
        self._closed = True
        self.heal()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy-pair", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open.wait()
        try:
            server.connect(str(self._target))
        except OSError:
            _shut(client, server)
            return
        with self._lock:
            self._pairs.append((client, server))
        generation = self._generation
        with suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    self._open.wait()
                    if data and generation != self._generation:
                        continue
                    if not data:
                        raise OSError
                    key.data.sendall(data)
        _shut(client, server)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
