"""The latest heartbeat of an agent on a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from hpo.errors import AgentSilentError
from hpo.study.catalog import read_study
from hpo.study.predicates import (
    NOW,
    lease_seconds,
    seconds,
)
from storage.tables import agents

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True)
class AgentHeartbeat:
    """The latest heartbeat of an agent on a host."""

    pid: int
    slots: int
    seen_seconds: float
    """Seconds since it last renewed its leases, by the database's clock."""
    lease_seconds: float
    """Duration of its leases."""


def check_agent(database: Database, study: str, host: str) -> AgentHeartbeat:
    """Return the latest heartbeat on `host` if it is younger than half a lease; leases are renewed 12 times each.

    Raises:
        UnknownStudyError: no study has that name.
        AgentSilentError: no agent of the study runs on this host, or its heartbeat is older.
    """
    heartbeat = database.transaction(
        lambda c: _latest_heartbeat(c, read_study(c, study, database).study_id, host)
    )
    if heartbeat is None:
        raise AgentSilentError(f"no agent of study {study!r} runs on {host}")
    if heartbeat.seen_seconds > heartbeat.lease_seconds / 2:
        raise AgentSilentError(
            f"the last heartbeat of agent {heartbeat.pid} of study {study!r} on {host} was"
            f" {heartbeat.seen_seconds:.0f} s ago"
        )
    return heartbeat


def _latest_heartbeat(connection: Connection, study_id: int, host: str) -> AgentHeartbeat | None:
    silent = seconds(NOW - agents.c.seen_at)
    row = connection.execute(
        select(agents.c.pid, agents.c.slots, silent.label("silent"), lease_seconds().label("lease"))
        .where(agents.c.study_id == study_id, agents.c.host == host, agents.c.ended_at.is_(None))
        .order_by(agents.c.seen_at.desc())
        .limit(1)
    ).one_or_none()
    return AgentHeartbeat(row.pid, row.slots, row.silent, row.lease) if row is not None else None
