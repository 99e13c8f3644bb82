"""Configurations that are given to one trial each, under the lock on the study's row.

Those of a finite space are trained once, and those of a design once from each of its seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import SETTLED
from storage import attempts, budget
from storage.optuna.trials import count_enqueued

Choose = Callable[[list[Mapping[str, Any]], list[Mapping[str, Any]]], Mapping[str, Any]]
"""Chooses a configuration, given those of failed trials and those of all others."""

Contains = Callable[[Mapping[str, Any]], bool]
"""Whether a study's space contains a configuration."""

_GIVEN = (
    "hpo.trials t LEFT JOIN public.trial_system_attributes a"
    " ON a.trial_id = t.trial_id AND a.key = 'fixed_params' AND t.params IS NULL WHERE t.study_id = :s"
)
"""Trials of a study, each with the configuration that it was given in `a` while it has none of its own."""

_PARAMS = "coalesce(CAST(t.params AS text), a.value_json)"


def give(
    connection: Connection,
    study_id: int,
    attempt_id: int,
    trial_id: int,
    proposed: Mapping[str, Any] | None,
    choose: Choose,
) -> Mapping[str, Any]:
    """Give an attempt's trial the proposed configuration, else the one that `choose` returns; return it.

    `choose` decides where nothing is proposed, or another trial has had the proposal. Can be repeated.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    # Chosen before the lock is taken, because it takes a while in a large study, and so mostly not under the lock.
    chosen = proposed
    if chosen is None or _taken(connection, study_id, trial_id, chosen):
        chosen = choose(*_known(connection, study_id, trial_id))
    budget.lock_study(connection, study_id)
    attempts.guard(connection, attempt_id)
    if _taken(connection, study_id, trial_id, chosen):
        chosen = choose(*_known(connection, study_id, trial_id))
    connection.execute(
        text(
            "INSERT INTO public.trial_system_attributes (trial_id, key, value_json) VALUES (:t, 'fixed_params', :v)"
            " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
        ),
        {"t": trial_id, "v": json.dumps(dict(chosen))},
    )
    return chosen


def _taken(connection: Connection, study_id: int, trial_id: int, params: Mapping[str, Any]) -> bool:
    """Whether another trial of the study has, or has had, a configuration."""
    found: bool = connection.execute(
        text(
            f"SELECT EXISTS (SELECT 1 FROM {_GIVEN} AND t.trial_id IS DISTINCT FROM :t"
            f" AND CAST({_PARAMS} AS jsonb) = CAST(:params AS jsonb))"
        ),
        {"s": study_id, "t": trial_id, "params": json.dumps(dict(params))},
    ).scalar_one()
    return found


def _known(
    connection: Connection, study_id: int, trial_id: int
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the configurations of failed trials, and those of all others but one."""
    rows = connection.execute(
        text(
            f"SELECT {_PARAMS} AS params, (t.outcome IS NULL OR t.outcome = ANY(:settled)) AS kept"
            f" FROM {_GIVEN} AND t.trial_id IS DISTINCT FROM :t ORDER BY t.ordinal"
        ),
        {"s": study_id, "t": trial_id, "settled": list(SETTLED)},
    ).all()
    known = [(json.loads(row.params), row.kept) for row in rows if row.params is not None]
    return [one for one, kept in known if not kept], [one for one, kept in known if kept]


def reserved(connection: Connection, study_id: int) -> int:
    """Return the number of all trials of a study, those that failed included."""
    # Ordinals have no gaps.
    found: int = connection.execute(
        text("SELECT coalesce(max(ordinal) + 1, 0) FROM hpo.trials WHERE study_id = :s"), {"s": study_id}
    ).scalar_one()
    return found


def begun(connection: Connection, study_id: int, contains: Contains | None = None) -> tuple[int, int]:
    """Return how many different configurations have finished or will, and how many trials have none yet.

    Those outside the space do not count, if `contains` is given.
    """
    rows = connection.execute(
        text(
            # As texts, in which 1 is not 1.0.
            "SELECT CAST(CAST(params AS jsonb) AS text) AS params, count(*) AS trials FROM hpo.trials"
            " WHERE study_id = :s AND (outcome IS NULL OR outcome = ANY(:settled)) GROUP BY 1"
        ),
        {"s": study_id, "settled": list(SETTLED)},
    ).all()
    pending = sum(row.trials for row in rows if row.params is None)
    given = [row.params for row in rows if row.params is not None]
    return sum(contains is None or contains(json.loads(params)) for params in given), pending


def all_given(connection: Connection, study_id: int, size: int, contains: Contains | None) -> bool:
    """Whether the configurations of a finite space, and enqueued ones, suffice only for the trials that were begun."""
    if reserved(connection, study_id) < size:
        return False
    given, pending = begun(connection, study_id, contains)
    return given + pending >= size + asked_for(connection, study_id)


def asked_for(connection: Connection, study_id: int) -> int:
    """Return how many configurations were asked for that no trial has yet: they are trained again if they were before.

    They are enqueued trials and the objective's known good configurations.
    """
    first: int = connection.execute(
        text("SELECT coalesce(json_array_length(spec->'first'), 0) FROM hpo.studies WHERE study_id = :s"),
        {"s": study_id},
    ).scalar_one()
    left = max(0, first - reserved(connection, study_id))
    return left + count_enqueued(connection, study_id)


def next_seed(connection: Connection, study_id: int) -> int | None:
    """Return the seed of a design's next run, the first one from which not all points have begun; None if all have.

    The study's row must be locked.
    """
    return connection.execute(
        text(
            "SELECT CAST(seeds.value AS bigint) FROM hpo.studies s,"
            " json_array_elements_text(s.spec->'design'->'seeds') WITH ORDINALITY AS seeds(value, place)"
            " WHERE s.study_id = :s AND json_array_length(s.spec->'design'->'points') >"
            " (SELECT count(*) FROM hpo.trials t WHERE t.study_id = :s AND t.seed = CAST(seeds.value AS bigint)"
            "  AND (t.outcome IS NULL OR t.outcome = ANY(:settled)))"
            " ORDER BY seeds.place LIMIT 1"
        ),
        {"s": study_id, "settled": list(SETTLED)},
    ).scalar_one_or_none()


def give_point(
    connection: Connection, study_id: int, attempt_id: int, trial_id: int
) -> Mapping[str, Any] | None:
    """Give an attempt's trial the first point of the design that no other trial has with its seed; return it.

    A trial that has one keeps it, so that the call can be repeated. None if no point is left.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    budget.lock_study(connection, study_id)
    attempts.guard(connection, attempt_id)
    mine = connection.execute(
        text(
            "SELECT value_json FROM public.trial_system_attributes WHERE trial_id = :t AND key = 'fixed_params'"
        ),
        {"t": trial_id},
    ).scalar_one_or_none()
    if mine is not None:
        known: Mapping[str, Any] = json.loads(mine)
        return known
    point: Mapping[str, Any] | None = connection.execute(
        text(
            "SELECT points.value->'params' FROM hpo.studies s, hpo.trials own,"
            " json_array_elements(s.spec->'design'->'points') WITH ORDINALITY AS points(value, place)"
            " WHERE s.study_id = :s AND own.trial_id = :t AND NOT EXISTS"
            f" (SELECT 1 FROM {_GIVEN} AND t.trial_id <> :t AND t.seed = own.seed"
            "  AND (t.outcome IS NULL OR t.outcome = ANY(:settled))"
            f"  AND CAST({_PARAMS} AS jsonb) = CAST(points.value->'params' AS jsonb))"
            " ORDER BY points.place LIMIT 1"
        ),
        {"s": study_id, "t": trial_id, "settled": list(SETTLED)},
    ).scalar_one_or_none()
    if point is not None:
        connection.execute(
            text(
                "INSERT INTO public.trial_system_attributes (trial_id, key, value_json) VALUES (:t, 'fixed_params', :v)"
            ),
            {"t": trial_id, "v": json.dumps(point)},
        )
    return point
