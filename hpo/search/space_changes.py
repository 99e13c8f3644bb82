"""Changes of a study's search space, because its objective or `--param` changed since the study began."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.search.open_overrides import checked, meaning
from hpo.search.space import describe_parameter
from hpo.search.space_overrides import narrow_space, parts
from hpo.search.spec import StudySpec
from hpo.search.starting.starting_points import known_good_parts
from objectives.description import Description
from objectives.spaces.choices import same_distribution
from objectives.spaces.space import conditions_of, lies_within, same_parameter, same_space
from storage import trials
from storage.engine import Database
from storage.optuna.spaces import observed_distributions


def with_space(
    database: Database, study_id: int, spec: StudySpec, request: LaunchRequest, description: Description
) -> StudySpec:
    """Return the spec to continue with, if the objective's space or its narrowing changed.

    Raises:
        StudyConflictError: the request does not choose a space, or Optuna does not allow the change.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    if description.open_space:
        return _with_narrowing(database, study_id, spec, request)
    now = description.space
    wanted = narrow_space(now, request.params) if request.params else None
    same_code = same_space(now, spec.objective_space)
    if same_code and (wanted is None or same_space(wanted, spec.space)):
        return spec
    if request.space == "keep":
        return replace(spec, objective_space=now)
    target = wanted if wanted is not None else now
    differences = _differences(spec.space, target)
    if not differences:
        return replace(spec, objective_space=now)
    finished, inside = _count_inside(database, study_id, target)
    cause = (
        f"--param gives another space than study {request.study!r} was created with"
        if same_code
        else f"the objective's search space has changed since study {request.study!r} began"
    )
    change = (
        f"{cause} ({'; '.join(differences)}); {inside} of its {finished} finished trials lie in the new one"
    )
    fixed = _unchangeable(spec.space, target)
    if fixed:
        raise StudyConflictError(
            f"{change}. Choices and names ({', '.join(fixed)}) cannot change within a study:"
            " keep the old space (--space keep), or start another study with --study"
        )
    if request.space != "change":
        raise StudyConflictError(
            f"{change}. Use the new space (--space change: all trials stay in the history),"
            " keep the old one (--space keep), or start another study with --study"
        )
    first = known_good_parts(description.first, target)
    return replace(spec, space=target, space_changed=True, objective_space=now, first=first)


def _with_narrowing(database: Database, study_id: int, spec: StudySpec, request: LaunchRequest) -> StudySpec:
    """Return the spec of an open space to continue with, if the request narrows it in another way."""
    wanted = checked(request.params)
    if not wanted or request.space == "keep":
        return spec
    observed = dict(database.transaction(lambda c: observed_distributions(c, study_id)))
    now, was = ({meaning(observed, text): text for text in texts} for texts in (wanted, spec.narrowing))
    changed = [parts(observed, text) for key, text in (now | was).items() if not (key in now and key in was)]
    if not changed:
        return spec
    fixed = {
        name
        for name, _, value in changed
        if name in observed and (observed[name]["name"] == CategoricalDistribution.__name__ or "," in value)
    }
    if fixed:
        raise StudyConflictError(
            f"choices ({', '.join(sorted(fixed))}) cannot change within study {request.study!r}: keep the old --param"
            " (--space keep), or start another study with --study"
        )
    if request.space != "change" and database.transaction(lambda c: trials.counted_params(c, study_id)):
        used = " ".join(f"--param {text}" for text in spec.narrowing) or "no --param"
        raise StudyConflictError(
            f"study {request.study!r} has trials with {used}. Use the new ones (--space change: all trials stay in the"
            " history), keep the old ones (--space keep), or start another study"
            " with --study"
        )
    return replace(spec, narrowing=wanted)


def _differences(old: Mapping[str, BaseDistribution], new: Mapping[str, BaseDistribution]) -> list[str]:
    def texts(name: str, describe: Callable[[Mapping[str, BaseDistribution], str], str]) -> list[str]:
        return [describe(space, name) if name in space else "absent" for space in (old, new)]

    found = []
    for name in dict.fromkeys([*old, *new]):
        if not same_parameter(name, old, new):
            was, now = texts(name, describe_parameter)
            if was == now:
                # They differ in types or late digits.
                was, now = texts(name, _represent)
            found.append(f"{name}: was {was}, is {now}")
    return found


def _represent(space: Mapping[str, BaseDistribution], name: str) -> str:
    return " if ".join(map(repr, (space[name], *conditions_of(space).get(name, ()))))


def _unchangeable(old: Mapping[str, BaseDistribution], new: Mapping[str, BaseDistribution]) -> list[str]:
    """Return the changed parameters that Optuna does not allow to change: choices, types and names."""
    return [
        name
        for name in dict.fromkeys([*old, *new])
        if not same_distribution(old.get(name), new.get(name))
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
    """Return the number of finished trials, and of those that lie inside a space."""

    finished = database.transaction(lambda c: trials.counted_params(c, study_id))
    return len(finished), sum(lies_within(params, space) for params in finished)
