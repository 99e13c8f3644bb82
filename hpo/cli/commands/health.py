"""`hpo health`: the health check of a container."""

from __future__ import annotations

import click

from hpo.cli import options


@click.command()
@options.study_option
@options.storage_option
def health(study: str, storage: str | None) -> None:
    """Ask the database whether this host's agent is at work.

    Exit code 1 where it has been silent for half a lease, or the database is. For the health checks of
    containers: an agent survives an outage, so do not restart it for one.
    """
    from hpo.process.identity import host_name
    from hpo.study.health import check_agent
    from storage.engine import open_database

    found = options.settings(storage)
    with open_database(found.storage, found.home, wait_seconds=2.0, migrate=False) as database:
        heard = check_agent(database, study, host_name())
    click.echo(f"process {heard.pid} with {heard.slots} slots was heard of {heard.seen_seconds:.0f} s ago")
