"""Trials that repeat a configuration with other seeds, as a measure of its noise.

They are the last trials of a budget with `--repeats`, once all others have ended; `--stop-when-flat` has them trained
where it may end the search soon. They repeat the best trial, and are neither pruned nor paused.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.outcomes import COUNTED, Outcome
from hpo.search.plateau import REPEATS, Plateau, plateau
from storage import attempts, budget, configurations
from storage.budget import Counts
from storage.configurations import Contains

ATTRIBUTE = "hpo_repeats"
"""User attribute of a trial that repeats another one: the number of that trial."""

_REPEATS = f"public.trial_user_attributes u WHERE u.trial_id = t.trial_id AND u.key = '{ATTRIBUTE}'"
IS_REPEAT = f"EXISTS (SELECT 1 FROM {_REPEATS})"
"""SQL: whether the row `t` of `hpo.trials` is a repeat."""

_IS_OTHER = "(CAST(:t AS bigint) IS NULL OR t.trial_id IS DISTINCT FROM :t)"
"""SQL: whether the row `t` is not that of the trial `:t`, if there is one: a new reservation has no trial either."""


class Turn(Enum):
    """The kind of trial that begins next."""

    SEARCH = "a configuration that the sampler proposes"
    WAIT = "none before the others have ended, because a repeat of the best one follows"
    REPEAT = "a repeat of the best one"


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The values of a trial's configuration with other seeds."""

    number: int
    """Number of the trial that was repeated."""
    begun: int
    """Repeats that have finished or will."""
    open: int
    """Repeats that have not finished."""
    values: tuple[float, ...]
    """Values of the complete ones; that of the trial itself is left out, because it was the best of many."""

    @property
    def mean(self) -> float | None:
        # Exact, so that values near the largest float do not overflow.
        return statistics.mean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for fewer than two values."""
        try:
            return statistics.stdev(self.values) if len(self.values) > 1 else None
        except OverflowError:
            return math.inf


def read(connection: Connection, study_id: int) -> list[Noise]:
    """Return the repeated trials of a study, the last one last."""
    rows = connection.execute(
        text(
            "SELECT u.value_json AS number, count(*) AS begun, count(*) FILTER (WHERE t.outcome IS NULL) AS open,"
            " array_agg(t.value ORDER BY t.reservation_id) FILTER (WHERE t.outcome = :complete) AS values"
            " FROM hpo.trials t JOIN public.trial_user_attributes u ON u.trial_id = t.trial_id AND u.key = :key"
            " WHERE t.study_id = :s AND (t.outcome IS NULL OR t.outcome = ANY(:counted))"
            " GROUP BY u.value_json ORDER BY max(t.reservation_id)"
        ),
        {"s": study_id, "key": ATTRIBUTE, "complete": Outcome.COMPLETE, "counted": list(COUNTED)},
    )
    return [
        Noise(
            number=int(json.loads(row.number)),
            begun=row.begun,
            open=row.open,
            values=tuple(value for value in row.values or () if value is not None),
        )
        for row in rows
    ]


def searched_to_the_end(connection: Connection, study_id: int, counts: Counts) -> int:
    """Return the number of complete trials that are no repeats."""
    return counts.complete - sum(len(noise.values) for noise in read(connection, study_id))


def originals(connection: Connection, study_id: int) -> dict[int, int]:
    """Return the number of the trial that each repeat repeats, by the number of the repeat."""
    rows = connection.execute(
        text(
            "SELECT t.number, u.value_json FROM hpo.trials t JOIN public.trial_user_attributes u"
            " ON u.trial_id = t.trial_id AND u.key = :key WHERE t.study_id = :s"
        ),
        {"s": study_id, "key": ATTRIBUTE},
    )
    return {row.number: int(json.loads(row.value_json)) for row in rows}


def turn(connection: Connection, study_id: int, contains: Contains | None = None) -> Turn:
    """Return the kind of trial that begins next in a study with `--repeats`; its row must be locked."""
    study = _study(connection, study_id)
    if study.repeats is None or not _searched(connection, study_id, study, contains):
        return Turn.SEARCH
    best = _best(connection, study_id, maximize=study.maximize)
    if _is_training(connection, study_id) or (best is None and _may_complete(connection, study_id)):
        return Turn.WAIT
    return Turn.SEARCH if best is None or not _missing(connection, study_id, best, study) else Turn.REPEAT


def give(
    connection: Connection, study_id: int, attempt_id: int, trial_id: int, contains: Contains | None = None
) -> bool:
    """Give an attempt's trial the configuration that is to be repeated, if one is; return whether it is a repeat.

    A trial whose values were asked for is none. Can be repeated.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    budget.lock_study(connection, study_id)
    attempts.guard(connection, attempt_id)
    if connection.execute(
        text(f"SELECT {IS_REPEAT} FROM hpo.trials t WHERE t.trial_id = :t"), {"t": trial_id}
    ).scalar_one_or_none():
        return True
    asked_for = "SELECT 1 FROM public.trial_system_attributes WHERE trial_id = :t AND key = 'fixed_params'"
    if connection.execute(text(asked_for), {"t": trial_id}).first() is not None:
        return False
    best = _due(connection, study_id, trial_id, contains)
    if best is None:
        return False
    for table, key, value in (
        ("trial_system_attributes", "fixed_params", json.dumps(best.params)),
        ("trial_user_attributes", ATTRIBUTE, json.dumps(best.number)),
    ):
        connection.execute(
            text(f"INSERT INTO public.{table} (trial_id, key, value_json) VALUES (:t, :k, :v)"),
            {"t": trial_id, "k": key, "v": value},
        )
    return True


def _due(connection: Connection, study_id: int, trial_id: int, contains: Contains | None) -> Row[Any] | None:
    """Return the best trial if this one is to repeat it."""
    study = _study(connection, study_id)
    best = _best(connection, study_id, maximize=study.maximize)
    if best is None or not _missing(connection, study_id, best, study):
        return None
    if study.stop_when_flat and _to_measure(connection, study_id, maximize=study.maximize):
        return best
    if study.repeats is None or not _searched(connection, study_id, study, contains, trial_id):
        return None
    return None if _is_training(connection, study_id, trial_id) else best


def _study(connection: Connection, study_id: int) -> Row[Any]:
    return connection.execute(
        text(
            "SELECT budget, CAST(spec->>'repeats' AS integer) AS repeats,"
            " coalesce(CAST(spec->>'stop_when_flat' AS boolean), false) AS stop_when_flat,"
            " spec->>'direction' = 'maximize' AS maximize, CAST(spec->>'configurations' AS integer) AS configurations"
            " FROM hpo.studies WHERE study_id = :s"
        ),
        {"s": study_id},
    ).one()


def _best(connection: Connection, study_id: int, *, maximize: bool) -> Row[Any] | None:
    """Return number, value and parameters of the best trial that is no repeat."""
    return connection.execute(
        text(
            "SELECT t.number, t.value, t.params FROM hpo.trials t"
            f" WHERE t.study_id = :s AND t.outcome = :complete AND t.value IS NOT NULL AND NOT {IS_REPEAT}"
            f" ORDER BY t.value {'DESC' if maximize else 'ASC'}, t.decided_at, t.reservation_id LIMIT 1"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE},
    ).one_or_none()


def _missing(connection: Connection, study_id: int, best: Row[Any], study: Row[Any]) -> bool:
    """Whether a trial has fewer repeats than it is to have."""
    begun = next((one.begun for one in read(connection, study_id) if one.number == best.number), 0)
    return begun < int(study.repeats or REPEATS)


def _searched(
    connection: Connection,
    study_id: int,
    study: Row[Any],
    contains: Contains | None,
    without: int | None = None,
) -> bool:
    """Whether the trials before the repeats have begun, or all configurations of a finite space have.

    The trial `without` has no configuration yet.
    """
    size: int | None = study.configurations
    limit = max(1, int(study.budget) - int(study.repeats))
    if configurations.reserved(connection, study_id) < (limit if size is None else min(limit, size)):
        return False
    searched: int = connection.execute(
        text(
            f"SELECT count(*) FROM hpo.trials t WHERE t.study_id = :s AND {_IS_OTHER}"
            f" AND (t.outcome IS NULL OR t.outcome = ANY(:counted)) AND NOT {IS_REPEAT}"
        ),
        {"s": study_id, "counted": list(COUNTED), "t": without},
    ).scalar_one()
    if searched >= limit or size is None:
        return searched >= limit
    if without is None:
        return configurations.all_given(connection, study_id, size, contains)
    return configurations.begun(connection, study_id, contains)[0] >= size


def _is_training(connection: Connection, study_id: int, without: int | None = None) -> bool:
    """Whether a trial that is no repeat has begun and neither ended nor paused."""
    found: bool = connection.execute(
        text(
            f"SELECT EXISTS (SELECT 1 FROM hpo.trials t WHERE t.study_id = :s AND {_IS_OTHER}"
            f" AND t.outcome IS NULL AND t.paused_epoch IS NULL AND NOT {IS_REPEAT})"
        ),
        {"s": study_id, "t": without},
    ).scalar_one()
    return found


def _may_complete(connection: Connection, study_id: int) -> bool:
    """Whether a paused trial goes on if no trial is complete otherwise."""
    found: bool = connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.trials WHERE study_id = :s AND outcome IS NULL"
            " AND paused_epoch IS NOT NULL AND paused_score < 'infinity')"
        ),
        {"s": study_id},
    ).scalar_one()
    return found


def _to_measure(connection: Connection, study_id: int, *, maximize: bool) -> bool:
    """Whether the search may end soon, and no configuration as good as the best one was repeated."""
    is_near = read_plateau(connection, study_id, maximize=maximize).is_near
    return is_near and noise_of(connection, study_id, maximize=maximize) is None


def read_plateau(connection: Connection, study_id: int, *, maximize: bool) -> Plateau:
    """Return the recent gain of a study."""
    rows = connection.execute(
        text(
            f"SELECT CASE WHEN t.outcome = :complete THEN {'-' if maximize else ''}t.value END AS value"
            " FROM hpo.trials t WHERE t.study_id = :s AND t.outcome = ANY(:counted) AND t.paused_epoch IS NULL"
            f" AND NOT {IS_REPEAT} ORDER BY t.decided_at, t.reservation_id"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE, "counted": list(COUNTED)},
    ).scalars()
    return plateau([float("inf") if value is None else value for value in rows])


def noise_of(connection: Connection, study_id: int, *, maximize: bool) -> Noise | None:
    """Return the noise of the best value: of the best trial, or of one that is not worse by more than its noise."""
    best = _best(connection, study_id, maximize=maximize)
    wanted = int(_study(connection, study_id).repeats or REPEATS)
    for noise in reversed(read(connection, study_id)):
        if best is None or noise.begun < wanted or noise.open or noise.deviation is None:
            continue
        value = connection.execute(
            text("SELECT value FROM hpo.trials WHERE study_id = :s AND number = :n"),
            {"s": study_id, "n": noise.number},
        ).scalar_one_or_none()
        if value is not None and abs(value - best.value) <= noise.deviation:
            return noise
    return None
