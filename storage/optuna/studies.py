"""Studies in Optuna's tables: found, created and corrected next to our own rows, in one transaction with them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True)
class OptunaStudy:
    """A study in Optuna's tables."""

    study_id: int
    name: str
    directions: tuple[str, ...]
    """`minimize` or `maximize` for each of its objectives."""
    trials: int
    """Trials that have begun; those that are only enqueued are trained as trials of the service."""


_FIND = (
    "SELECT s.study_id, s.study_name, (SELECT count(*) FROM public.trials t WHERE t.study_id = s.study_id"
    " AND t.state <> 'WAITING') AS trials,"
    " ARRAY(SELECT lower(d.direction::text) FROM public.study_directions d WHERE d.study_id = s.study_id"
    "  ORDER BY d.objective) AS directions FROM public.studies s WHERE "
)


def find(connection: Connection, name: str) -> OptunaStudy | None:
    """Return the study of that name, or None."""
    return _find(connection, "s.study_name = :key", name)


def find_by_id(connection: Connection, study_id: int) -> OptunaStudy | None:
    """Return the study of that id, or None."""
    return _find(connection, "s.study_id = :key", study_id)


def _find(connection: Connection, condition: str, key: str | int) -> OptunaStudy | None:
    row = connection.execute(text(_FIND + condition), {"key": key}).one_or_none()
    if row is None:
        return None
    return OptunaStudy(
        study_id=row.study_id, name=row.study_name, directions=tuple(row.directions), trials=row.trials
    )


def create(connection: Connection, name: str, direction: str) -> bool:
    """Create a study of one objective, as `optuna.create_study` does; return False if another process has done so."""
    study_id = connection.execute(
        text(
            "INSERT INTO public.studies (study_name) VALUES (:n) ON CONFLICT (study_name) DO NOTHING"
            " RETURNING study_id"
        ),
        {"n": name},
    ).scalar_one_or_none()
    if study_id is None:
        return False
    connection.execute(
        text(
            "INSERT INTO public.study_directions (study_id, objective, direction)"
            " VALUES (:s, 0, CAST(:d AS studydirection))"
        ),
        {"s": study_id, "d": direction.upper()},
    )
    return True


def set_direction(connection: Connection, study_id: int, direction: str) -> None:
    """Set the direction of a study of one objective, which has no trials yet."""
    connection.execute(
        text(
            "UPDATE public.study_directions SET direction = CAST(:d AS studydirection) WHERE study_id = :s"
            " AND direction <> CAST(:d AS studydirection)"
        ),
        {"s": study_id, "d": direction.upper()},
    )
