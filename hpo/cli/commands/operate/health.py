"""`hpo health`: the health check of a container."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@options.storage_option
def health(study: str, storage: str | None) -> None:
    """Check the heartbeat of this host's agent.

    Exit code 1 if its last heartbeat is older than half a lease, or the database does not answer. For the
    health checks of containers. An agent survives a database outage, so do not restart it because of one.
    """
    from hpo.formatting import counted
    from hpo.process.identity import host_name
    from hpo.study.monitoring.heartbeat import check_agent
    from storage.opening import open_database

    found = options.settings(storage)
    with open_database(found.storage, found.home, migrate=False) as database:
        agent = check_agent(database, study, host_name())
    echo_text(
        f"agent {agent.pid} ({counted(agent.slots, 'slot')}): last heartbeat {agent.seen_seconds:.0f} s ago"
    )
