"""`hpo dashboard`: optuna-dashboard behind waitress, with access control."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.dashboard.answers import AnsweredChanges, pages, tables
from hpo.dashboard.artifacts import PictureStore
from hpo.dashboard.http_server import create_server
from hpo.dashboard.reports import Reports
from hpo.dashboard.security import (
    HEALTH,
    Guard,
    Password,
    SecurityHeaders,
    few_changes,
    is_change,
    is_loopback,
    is_password,
    known_hosts,
    read_only,
    slow_plots,
)
from hpo.dashboard.storage_view import StorageView
from hpo.dashboard.studies import OwnStudies
from hpo.errors import HpoError, UsageError
from hpo.files.bounded_text import read_text

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from storage.engine import Database

LEAST_PASSWORD = 8
"""Characters of the shortest password with which other machines may reach the dashboard: it can be guessed online."""

PASSWORD_BYTES = 4096
"""Size of the longest password file."""

PASSWORD, PASSWORD_FILE = "HPO_DASHBOARD_PASSWORD", "HPO_DASHBOARD_PASSWORD_FILE"


class PasswordNeededError(UsageError):
    """Other machines could reach the dashboard without a password."""


class PortTakenError(HpoError):
    """The server cannot listen at the address."""


@dataclass(frozen=True)
class DashboardRequest:
    """The options of `hpo dashboard`."""

    host: str = "127.0.0.1"
    port: int = 8080
    """TCP port; 0 chooses a free one."""
    allow_changes: bool = False
    study_folders: Sequence[Path] = ()
    """Folders with one folder for each study, which is deleted with the study."""


def read_password(environment: Mapping[str, str]) -> str | None:
    """Return the password from the environment or from the file that it names; None if neither is set.

    Raises:
        UsageError: the file cannot be read or is empty.
    """
    if (given := environment.get(PASSWORD)) and not given.isspace():
        return given
    name = environment.get(PASSWORD_FILE)
    if not name:
        return None
    try:
        password = read_text(Path(name), PASSWORD_BYTES).strip("\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"{PASSWORD_FILE}={name} cannot be read ({reason}): name a text file that you may read"
        ) from exc
    if not password.strip():
        raise UsageError(f"{PASSWORD_FILE}={name} is empty: write the password into it")
    return password


def build_app(database: Database, request: DashboardRequest, password: str | None) -> WSGIApplication:
    """Return the dashboard with all middleware, the outermost last."""
    from optuna_dashboard import wsgi

    drawing = threading.Lock()
    storage = StorageView(database.optuna, OwnStudies(database, request.study_folders), request.allow_changes)
    app: WSGIApplication = wsgi(storage, artifact_store=PictureStore(database, drawing))
    app = tables(pages(AnsweredChanges(app), request.allow_changes))
    app = Guard(app, slow_plots(storage.get_n_trials))
    app = Reports(app, database, drawing)
    app = Guard(app, few_changes if request.allow_changes else read_only)
    app = Password(app, password) if password is not None else Guard(app, known_hosts)
    return SecurityHeaders(app)


class DashboardServer:
    """A server that listens from its creation on and answers while `run` is executing."""

    def __init__(self, database: Database, request: DashboardRequest) -> None:
        """Listen at the address.

        Raises:
            PasswordNeededError: other machines could reach it and there is no password.
            PortTakenError: the address is in use or does not belong to this machine.
        """
        password = read_password(os.environ)
        if password is None and not is_loopback(request.host):
            raise PasswordNeededError(
                f"other machines could reach the dashboard at {request.host} without a password: set {PASSWORD}, or"
                f" {PASSWORD_FILE} to the name of a file that contains it"
            )
        if password is not None and not is_loopback(request.host) and len(password) < LEAST_PASSWORD:
            raise PasswordNeededError(
                f"the password of the dashboard has {len(password)} characters, and other machines could guess it at"
                f" {request.host}: set {PASSWORD} to at least {LEAST_PASSWORD}"
            )
        self.token = secrets.token_urlsafe(12) if password is None and request.allow_changes else None
        """Password of this start, without which other users of this machine could delete studies."""
        password = password or self.token
        app = build_app(database, request, password)
        try:
            listening = _listen(request.host, request.port)
        except OSError as exc:
            reason = str(exc.strerror).partition(" (while")[0]
            raise PortTakenError(
                f"cannot listen at {request.host}, port {request.port} ({reason}): choose another --port or --host"
            ) from exc

        def accepts(method: str, path: str, authorization: str) -> bool:
            allowed = password is None or is_password(authorization, password)
            return allowed and request.allow_changes and is_change(method, path)

        self._server = create_server(app, listening, accepts, HEALTH)
        shown = f"[{request.host}]" if ":" in request.host else request.host
        self.url = f"http://{shown}:{listening[0].getsockname()[1]}/"

    def run(self) -> None:
        """Answer requests until interrupted, then close."""
        self._server.run()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets for all addresses of a name, at one port.

    Waitress's own `listen` chooses a port for each address if `port` is 0, fails if one of the addresses is
    unavailable, and leaves sockets open when it fails.
    """
    listening: list[socket.socket] = []
    unavailable: OSError | None = None
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        chosen = listening[0].getsockname()[1] if listening else port
        try:
            listening.append(socket.create_server((address[0], chosen, *address[2:]), family=family))
        except OSError as exc:
            if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for one in listening:
                    one.close()
                raise
            # In containers without an IPv6 network, localhost may still have an IPv6 address.
            unavailable = exc
    if unavailable is not None and not listening:
        raise unavailable
    return listening
