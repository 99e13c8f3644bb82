"""`hpo dashboard`: studies in a browser."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import Number
from hpo.options.fields import Range


@click.command()
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    "--port",
    type=Number(Range(0, 65535)),
    metavar="N",
    default=8080,
    show_default=True,
    help="Port to listen on; 0: any free one.",
)
@option(
    "--allow-changes",
    is_flag=True,
    show_default="read-only",
    help="Allow writing notes and deleting studies.",
)
@options.storage_option
def dashboard(host: str, port: int, allow_changes: bool, storage: str | None) -> None:
    """Show studies in a browser, with curves, confusion matrices and reports.

    By default it is read-only and reachable only from this machine. On another address it needs a password,
    from HPO_DASHBOARD_PASSWORD or from the file named by HPO_DASHBOARD_PASSWORD_FILE; the user is `hpo`. With
    --allow-changes and no password, it prints one of its own, which other users of this machine do not know.
    Plain HTTP does not encrypt passwords: put a proxy with TLS in front of it.
    """
    from hpo.dashboard.server import DashboardRequest, DashboardServer

    found = options.settings(storage)
    folders = (found.checkpoints, found.home / "logs")
    with options.opened(storage, starts=True) as database:
        server = DashboardServer(database, DashboardRequest(host, port, allow_changes, folders))
        try:
            kind = "changes are allowed" if allow_changes else "read-only"
            echo_text(f"dashboard: {server.url} ({kind}); Ctrl-C ends it")
            if server.token is not None:
                echo_text(f"log in as hpo with the password {server.token}, which is valid until it ends")
            server.run()
        finally:
            server.close()
