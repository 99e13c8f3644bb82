"""Register a study's agents, and release the attempts of agents that leave or died."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from storage.leases import LeaseTimes, lose, release


def new_agent_id(connection: Connection) -> int:
    """Return a unique id, so that joining can be repeated."""
    agent_id: int = connection.execute(
        text("SELECT nextval(pg_get_serial_sequence('hpo.agents', 'agent_id'))")
    ).scalar_one()
    return agent_id


def join(
    connection: Connection,
    agent_id: int,
    study_id: int,
    host: str,
    pid: int,
    process: str,
    slots: int,
    versions: Mapping[str, str],
    lease_seconds: float = LeaseTimes.lease_seconds,
) -> int:
    """Register an agent, once; returns its ordinal in the study."""
    known: int | None = connection.execute(
        text("SELECT ordinal FROM hpo.agents WHERE agent_id = :a"), {"a": agent_id}
    ).scalar_one_or_none()
    if known is not None:
        return known
    ordinal: int = connection.execute(
        text(
            "UPDATE hpo.studies SET agents_seen = agents_seen + 1 WHERE study_id = :s RETURNING agents_seen - 1"
        ),
        {"s": study_id},
    ).scalar_one()
    connection.execute(
        text(
            "INSERT INTO hpo.agents"
            " (agent_id, study_id, ordinal, host, pid, process, slots, versions, lease_seconds) VALUES"
            " (:a, :s, :o, :host, :pid, :process, :slots, CAST(:versions AS jsonb), :lease)"
        ),
        {
            "a": agent_id,
            "s": study_id,
            "o": ordinal,
            "host": host,
            "pid": pid,
            "process": process,
            "slots": slots,
            "versions": json.dumps(dict(versions)),
            "lease": lease_seconds,
        },
    )
    return ordinal


@dataclass(frozen=True)
class Presence:
    """The part of an agent's study that the database still has."""

    agents_table: int | None
    """OID of the table with the agent's own row, which a restored database replaces; None: the row is gone."""
    in_optuna: bool


def presence(connection: Connection, agent_id: int, process: str, study_id: int) -> Presence:
    """Return the parts of an agent and its study that the database has."""
    row = connection.execute(
        text(
            "SELECT (SELECT CAST(tableoid AS bigint) FROM hpo.agents WHERE agent_id = :a AND process = :p"
            " AND study_id = :s) AS agents_table, EXISTS (SELECT 1 FROM studies WHERE study_id = :s) AS in_optuna"
        ),
        {"a": agent_id, "p": process, "s": study_id},
    ).one()
    return Presence(row.agents_table, row.in_optuna)


def note_version(connection: Connection, agent_id: int, name: str, version: str) -> None:
    """Add an entry to an agent's versions, or replace it."""
    connection.execute(
        text(
            "UPDATE hpo.agents SET versions = versions || jsonb_build_object(CAST(:n AS text), CAST(:v AS text))"
            " WHERE agent_id = :a"
        ),
        {"a": agent_id, "n": name, "v": version},
    )


def versions_of_others(connection: Connection, agent_id: int, name: str) -> list[tuple[str, str]]:
    """Return hosts and an entry of the versions of the other agents of an agent's study that have it, latest first."""
    rows = connection.execute(
        text(
            "SELECT other.host, other.versions ->> CAST(:n AS text) AS version FROM hpo.agents other"
            " JOIN hpo.agents own ON own.study_id = other.study_id AND own.agent_id <> other.agent_id"
            " WHERE own.agent_id = :a AND other.versions ->> CAST(:n AS text) IS NOT NULL"
            " ORDER BY other.agent_id DESC"
        ),
        {"a": agent_id, "n": name},
    )
    return [(row.host, row.version) for row in rows]


def latest_versions(connection: Connection, name: str, study_id: int | None = None) -> dict[int, str]:
    """Return an entry of the versions of the latest agent that has it, by study_id; of all studies if it is None."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (study_id) study_id, versions ->> CAST(:n AS text) AS version FROM hpo.agents"
            " WHERE versions ->> CAST(:n AS text) IS NOT NULL AND study_id = COALESCE(:s, study_id)"
            " ORDER BY study_id, agent_id DESC"
        ),
        {"n": name, "s": study_id},
    )
    return {row.study_id: row.version for row in rows}


def leave(connection: Connection, agent_id: int) -> None:
    """Release the agent's attempts and mark it as ended."""
    release(connection, *_held(connection, agent_id))
    _agent_ended(connection, agent_id)


def agents_of_host(connection: Connection, study_id: int, host: str) -> list[tuple[int, int, str]]:
    """Return id, process id and process of the study's agents on this host that have not left."""
    rows = connection.execute(
        text(
            "SELECT agent_id, pid, process FROM hpo.agents WHERE study_id = :s AND host = :h AND ended_at IS NULL"
        ),
        {"s": study_id, "h": host},
    )
    return [(row.agent_id, row.pid, row.process) for row in rows]


def reap_agent(connection: Connection, agent_id: int, max_lost: int) -> int:
    """Lose the attempts of an agent that is known to be dead; returns their number."""
    held = _held(connection, agent_id)
    for attempt_id in held:
        lose(connection, attempt_id, "its agent was killed", max_lost)
    _agent_ended(connection, agent_id)
    return len(held)


def _held(connection: Connection, agent_id: int) -> list[int]:
    """Lock the agent's live attempts and return their ids."""
    rows = connection.execute(
        text(
            "SELECT attempt_id FROM hpo.attempts WHERE agent_id = :a AND ended_at IS NULL"
            " ORDER BY attempt_id FOR UPDATE"
        ),
        {"a": agent_id},
    )
    return list(rows.scalars())


def _agent_ended(connection: Connection, agent_id: int) -> None:
    connection.execute(
        text("UPDATE hpo.agents SET ended_at = clock_timestamp() WHERE agent_id = :a"), {"a": agent_id}
    )
