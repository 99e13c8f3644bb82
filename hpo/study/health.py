"""Whether an agent of this host is at work, as the database sees it: what a container's health check asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from hpo.errors import AgentSilentError
from hpo.study.catalog import read_study
from hpo.study.predicates import NOW, lease_seconds, seconds
from storage.tables import agents

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True)
class Heard:
    """The agent of a host that was heard of last."""

    pid: int
    slots: int
    seen_seconds: float
    """Since it last renewed its leases, by the database's clock."""
    lease_seconds: float
    """How long these are."""


def check_agent(database: Database, study: str, host: str) -> Heard:
    """The agent on `host` that renewed its leases within half of one; it does so twelve times in each.

    Raises:
        UnknownStudyError: there is no such study.
        AgentSilentError: no agent of the study is on this host, or it has been silent for longer.
    """
    heard = database.transaction(lambda c: _last_heard(c, read_study(c, study, database).study_id, host))
    if heard is None:
        raise AgentSilentError(f"no agent of study {study!r} is at work on {host}")
    if heard.seen_seconds > heard.lease_seconds / 2:
        raise AgentSilentError(
            f"the agent of study {study!r} on {host} (process {heard.pid}) was last heard of"
            f" {heard.seen_seconds:.0f} s ago"
        )
    return heard


def _last_heard(connection: Connection, study_id: int, host: str) -> Heard | None:
    silent = seconds(NOW - agents.c.seen_at)
    row = connection.execute(
        select(agents.c.pid, agents.c.slots, silent.label("silent"), lease_seconds().label("lease"))
        .where(agents.c.study_id == study_id, agents.c.host == host, agents.c.ended_at.is_(None))
        .order_by(agents.c.seen_at.desc())
        .limit(1)
    ).one_or_none()
    return Heard(row.pid, row.slots, row.silent, row.lease) if row is not None else None
