"""`hpo dashboard`: optuna-dashboard behind waitress, reachable and changeable only as far as was asked for."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.dashboard.artifacts import PictureStore
from hpo.dashboard.reports import Reports
from hpo.dashboard.security import FewChanges, KnownHosts, Password, ReadOnly, SecurityHeaders, is_loopback
from hpo.dashboard.storage_view import ShownStorage
from hpo.dashboard.studies import OwnStudies
from hpo.errors import HpoError, UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from storage.engine import Database

THREADS = 8
"""Requests answered at the same time."""
CLOSING_SECONDS = 1
"""How long answers that are being made are waited for in the end."""

PASSWORD, PASSWORD_FILE = "HPO_DASHBOARD_PASSWORD", "HPO_DASHBOARD_PASSWORD_FILE"


class PasswordNeededError(UsageError):
    """The dashboard would be open to others without a password."""


class PortTakenError(HpoError):
    """Nothing can listen at that address."""


@dataclass(frozen=True)
class DashboardRequest:
    """What `hpo dashboard` was asked for."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any that is free."""
    allow_changes: bool = False
    study_folders: Sequence[Path] = ()
    """Hold a folder for each study, which goes when the study is deleted."""


def read_password(environment: Mapping[str, str]) -> str | None:
    """The password that the environment gives or whose file it names; None where there is none.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """
    if (given := environment.get(PASSWORD)) and not given.isspace():
        return given
    name = environment.get(PASSWORD_FILE)
    if not name:
        return None
    try:
        password = Path(name).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{PASSWORD_FILE}={name} cannot be read: {reason}") from exc
    if not password.strip():
        raise UsageError(f"{PASSWORD_FILE}={name} is empty: write the password into it")
    return password


def build_app(database: Database, request: DashboardRequest, password: str | None) -> WSGIApplication:
    """The dashboard with all that guards it, the outermost last."""
    from optuna_dashboard import wsgi

    drawing = threading.Lock()
    storage = ShownStorage(
        database.optuna, OwnStudies(database, request.study_folders), request.allow_changes
    )
    app: WSGIApplication = wsgi(storage, artifact_store=PictureStore(database, drawing))
    app = Reports(app, database, drawing)
    app = FewChanges(app) if request.allow_changes else ReadOnly(app)
    app = Password(app, password) if password is not None else KnownHosts(app)
    return SecurityHeaders(app)


class DashboardServer:
    """A server that listens from when it is made, and answers while it `run`s."""

    def __init__(self, database: Database, request: DashboardRequest) -> None:
        """Listen.

        Raises:
            PasswordNeededError: others could reach it, and there is no password.
            PortTakenError: the address is taken, or is none of this machine's.
        """
        password = read_password(os.environ)
        if password is None and not is_loopback(request.host):
            raise PasswordNeededError(
                f"at {request.host} others can reach the dashboard: set {PASSWORD}, or {PASSWORD_FILE} to the"
                " name of a file that holds the password"
            )
        app = build_app(database, request, password)
        try:
            listening = _listen(request.host, request.port)
        except OSError as exc:
            raise PortTakenError(
                f"nothing can listen at {request.host}, port {request.port} ({exc.strerror}): choose another --port"
                " or --host"
            ) from exc
        self._server = _serve(app, listening)
        shown = f"[{request.host}]" if ":" in request.host else request.host
        self.url = f"http://{shown}:{listening[0].getsockname()[1]}/"

    def run(self) -> None:
        """Answer until interrupted, which is how it is meant to end; then listen no more."""
        self._server.run()

    def close(self) -> None:
        """Listen no more."""
        self._server.close()


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets for all addresses of a name, at the same port; waitress itself leaves some open when it fails."""
    listening: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # The first one chooses where any port will do.
        chosen = listening[0].getsockname()[1] if listening else port
        try:
            listening.append(_bound(family, kind, protocol, (address[0], chosen, *address[2:])))
        except OSError as exc:
            if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close(listening)
                raise
            # localhost has an address of version 6 in many a container that has no such network.
            absent = exc
    if absent is not None and not listening:
        raise absent
    return listening


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _serve(app: WSGIApplication, listening: list[socket.socket]) -> Any:
    from waitress.server import create_server
    from waitress.task import ThreadedTaskDispatcher

    class Dispatcher(ThreadedTaskDispatcher):
        def shutdown(self, cancel_pending: bool = True, timeout: int = CLOSING_SECONDS) -> bool:
            return bool(super().shutdown(cancel_pending, timeout))

    # Neither a page that asks for much at once nor an end in the midst of an answer is news.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    dispatcher = Dispatcher()
    dispatcher.set_thread_count(THREADS)
    return create_server(
        app,
        _dispatcher=dispatcher,
        sockets=listening,
        ident=None,
        clear_untrusted_proxy_headers=True,
    )
