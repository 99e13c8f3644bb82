"""The end of the output of each attempt, readable from every host."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text


def keep_log(connection: Connection, attempt_id: int, tail: str, size: int) -> None:
    """Store the end of an attempt's output, unless a longer output is stored; `size` is the whole in bytes."""
    connection.execute(
        text(
            "INSERT INTO hpo.attempt_logs (attempt_id, tail, bytes) VALUES (:a, :tail, :size)"
            " ON CONFLICT (attempt_id) DO UPDATE SET tail = excluded.tail, bytes = excluded.bytes,"
            " updated_at = clock_timestamp() WHERE attempt_logs.bytes < excluded.bytes"
        ),
        {"a": attempt_id, "tail": tail, "size": size},
    )


def left_logs(
    connection: Connection, study_id: int, attempts: Sequence[int], seconds: float
) -> dict[tuple[int, int], bool]:
    """Return whether the agents of these attempts are done with their logs, by trial number and attempt id.

    An agent is done when both have ended, or `seconds` after the end of the attempt: it may learn late that another
    agent has ended it. Attempts of other studies are left out.
    """
    rows = connection.execute(
        text(
            "SELECT t.number, a.attempt_id, a.ended_at IS NOT NULL AND (g.ended_at IS NOT NULL"
            "   OR a.ended_at < clock_timestamp() - :seconds * interval '1 second') AS done"
            " FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id) JOIN hpo.agents g USING (agent_id)"
            " WHERE t.study_id = :s AND a.attempt_id = ANY(:attempts)"
        ),
        {"s": study_id, "attempts": list(attempts), "seconds": seconds},
    )
    return {(row.number, row.attempt_id): row.done for row in rows}
