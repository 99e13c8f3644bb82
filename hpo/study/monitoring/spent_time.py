"""Time that agents and slots have spent on a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, text

from hpo.study.predicates import (
    seconds_of_attempt,
)
from storage.tables import attempts, trials

if TYPE_CHECKING:
    pass


_ELAPSED = text(
    """
    SELECT coalesce(sum(extract(epoch FROM upper(spell) - lower(spell))), 0)::float8
    FROM (
        SELECT unnest(range_agg(tstzrange(started_at, greatest(started_at, last)))) AS spell
        FROM (
            SELECT started_at,
                   CASE WHEN ended_at IS NOT NULL THEN ended_at
                        WHEN abs(extract(epoch FROM clock_timestamp() - seen_at)) < coalesce(lease_seconds, 120)
                        THEN clock_timestamp()
                        ELSE seen_at END AS last
            FROM hpo.agents WHERE study_id = :study_id
        ) AS lives
    ) AS spells
    """
)


def spent_seconds(connection: Connection, study_id: int) -> float:
    """Return the seconds that slots have spent on trials."""
    query = select(func.sum(seconds_of_attempt())).select_from(attempts.join(trials))
    return float(connection.scalar(query.where(trials.c.study_id == study_id)) or 0.0)


def elapsed_seconds(connection: Connection, study_id: int) -> float:
    """Return the seconds during which any agent was alive, counting overlaps once."""
    value = connection.scalar(_ELAPSED, {"study_id": study_id})
    return float(value or 0.0)
