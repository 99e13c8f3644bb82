"""`hpo dashboard`: optuna-dashboard behind waitress, reachable and changeable only as far as was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.dashboard.access import KnownHosts, OwnPagesOnly, Password, ReadOnly, SecurityHeaders, is_loopback
from hpo.dashboard.pictures import PictureStore
from hpo.dashboard.reports import Reports
from hpo.dashboard.shown_storage import ShownStorage
from hpo.errors import HpoError, UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from storage.engine import Database

THREADS = 8
"""Requests answered at the same time."""

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


def read_password(environment: Mapping[str, str]) -> str | None:
    """The password that the environment gives or whose file it names; None where there is none.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """
    if given := environment.get(PASSWORD):
        return given
    name = environment.get(PASSWORD_FILE)
    if not name:
        return None
    try:
        password = Path(name).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{PASSWORD_FILE}={name} cannot be read: {reason}") from exc
    if not password:
        raise UsageError(f"{PASSWORD_FILE}={name} is empty: write the password into it")
    return password


def build_app(database: Database, request: DashboardRequest, password: str | None) -> WSGIApplication:
    """The dashboard with all that guards it, the outermost last."""
    from optuna_dashboard import wsgi

    pictures = PictureStore(database)
    storage = ShownStorage(database.optuna, pictures.pictures_of, request.allow_changes)
    app: WSGIApplication = wsgi(storage, artifact_store=pictures)
    app = Reports(app, database)
    app = OwnPagesOnly(app) if request.allow_changes else ReadOnly(app)
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
        from waitress.server import create_server

        try:
            self._server: Any = create_server(
                build_app(database, request, password),
                host=request.host,
                port=request.port,
                threads=THREADS,
                ident=None,
                clear_untrusted_proxy_headers=True,
            )
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            raise PortTakenError(
                f"nothing can listen at {request.host}, port {request.port} ({reason}): choose another --port or --host"
            ) from exc
        shown = f"[{request.host}]" if ":" in request.host else request.host
        self.url = f"http://{shown}:{self._server.effective_port}/"

    def run(self) -> None:
        """Answer until interrupted."""
        self._server.run()

    def close(self) -> None:
        """Listen no more."""
        self._server.close()
