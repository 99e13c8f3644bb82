"""What becomes of a study's search space when its objective's is another than when the study began, or `--param` is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from sqlalchemy import Connection, text

from hpo.errors import StudyConflictError
from hpo.options import LaunchRequest
from hpo.outcomes import COUNTED
from hpo.search.optuna_study import known_good_parts, lies_within
from hpo.search.space_format import in_words
from hpo.search.space_overrides import narrow_space
from hpo.search.spec import StudySpec, space_from_json, space_to_json
from objectives.base import Description
from storage.engine import Database


def with_space(
    database: Database, study_id: int, spec: StudySpec, request: LaunchRequest, description: Description
) -> StudySpec:
    """The spec to go on with, when the objective's space is not what it was or is narrowed otherwise.

    Raises:
        StudyConflictError: it is, and the request does not say how to go on, or Optuna allows no such change.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    now = _normal(description.space)
    wanted = narrow_space(now, request.params) if request.params else None
    same_code = now == _normal(spec.objective_space)
    if same_code and (wanted is None or wanted == spec.space):
        return spec
    if request.space == "keep":
        return replace(spec, objective_space=now)
    target = wanted if wanted is not None else now
    differences = _differences(spec.space, target)
    if not differences:
        return replace(spec, objective_space=now)
    finished, inside = _count_inside(database, study_id, target)
    what = (
        f"--param asks for another space than study {request.study!r} began with"
        if same_code
        else f"the objective's search space has changed since study {request.study!r} began"
    )
    told = f"{what} ({'; '.join(differences)}); {inside} of its {finished} finished trials lie in the new one"
    fixed = _unchangeable(spec.space, target)
    if fixed:
        raise StudyConflictError(
            f"{told}. Choices and names ({', '.join(fixed)}) cannot change within a study:"
            " go on with the old space (--space keep), or start another with --study"
        )
    if request.space != "change":
        raise StudyConflictError(
            f"{told}. Go on with the new space (--space change: all trials stay in the history),"
            " with the old one (--space keep), or start another with --study"
        )
    return replace(spec, space=target, objective_space=now, first=known_good_parts(description.first, target))


def _normal(space: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """As it reads back from the database, so that equal spaces compare equal."""
    return space_from_json(space_to_json(space))


def _differences(old: Mapping[str, BaseDistribution], new: Mapping[str, BaseDistribution]) -> list[str]:
    def words(space: Mapping[str, BaseDistribution], name: str) -> str:
        return in_words(space[name]) if name in space else "absent"

    return [
        f"{name}: was {words(old, name)}, is {words(new, name)}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _unchangeable(old: Mapping[str, BaseDistribution], new: Mapping[str, BaseDistribution]) -> list[str]:
    """Parameters that Optuna does not allow to change within a study: choices, kinds and names."""
    return [
        name
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
        and (
            name not in old
            or name not in new
            or type(old[name]) is not type(new[name])
            or isinstance(old[name], CategoricalDistribution)
            or getattr(old[name], "log", None) != getattr(new[name], "log", None)
        )
    ]


def _count_inside(
    database: Database, study_id: int, space: Mapping[str, BaseDistribution]
) -> tuple[int, int]:
    """How many trials have finished, and how many of them lie inside a space."""

    def read(c: Connection) -> list[Mapping[str, Any]]:
        rows = c.execute(
            text(
                "SELECT params FROM hpo.trials WHERE study_id = :s AND params IS NOT NULL"
                " AND outcome = ANY(:counted)"
            ),
            {"s": study_id, "counted": list(COUNTED)},
        )
        return list(rows.scalars())

    finished = database.transaction(read)
    return len(finished), sum(lies_within(params, space) for params in finished)
