"""The end of an attempt, written once."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome


def end(
    connection: Connection, attempt_ids: Collection[int], outcome: Outcome, error: str | None = None
) -> None:
    """End attempts; those that have ended stay as they are."""
    connection.execute(
        text(
            "UPDATE hpo.attempts SET ended_at = clock_timestamp(), outcome = :o, error = :e"
            " WHERE attempt_id = ANY(:ids) AND ended_at IS NULL"
        ),
        {"ids": sorted(attempt_ids), "o": outcome, "e": error or None},
    )
