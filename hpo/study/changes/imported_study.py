"""`hpo import --from`: complete and pruned trials of a study of plain Optuna become history of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.errors import ImportSourceError
from hpo.search.space import params_problem
from hpo.search.spec import StudySpec
from hpo.study.catalog import find_study
from hpo.study.changes.known_results import Imported, add_once
from hpo.study.changes.optuna_source import OptunaSource, read_source
from hpo.study.definition.twin import optuna_twin
from hpo.study.open_space import declares_epochs
from objectives import values
from objectives.spaces.choices import find
from objectives.spaces.space import in_space, stored_space
from storage.optuna.trials import IMPORT_ATTRIBUTE, RESERVATION_ATTRIBUTE

if TYPE_CHECKING:
    import optuna

    from storage.engine import Database

_CONSTRAINT = "constraints:"
"""Prefix of the system attributes in which Optuna keeps the constraints of a trial."""

Space = Mapping[str, BaseDistribution]


def import_study(database: Database, study: str, url: str, name: str | None) -> Imported:
    """Add each complete or pruned trial inside the study's space to it in Optuna, once.

    Raises:
        UnknownStudyError: no study has that name.
        StudyConflictError: the study was deleted or changed with plain Optuna.
        ImportSourceError: the other study cannot be read, has another direction, or has no trial inside the space.
    """
    stored = find_study(database, study)
    spec = StudySpec.from_json(stored.spec_json)
    twin = optuna_twin(database, stored)
    source = read_source(url, name, study)
    _check(source, spec, twin)
    finished = [trial for trial in source.trials if _is_finished(trial)]
    # The steps of an Optuna objective are its own.
    shift = _shift(finished) if declares_epochs(stored.spec_json) else 0
    mark = values.text(f"study {source.name} in {source.place}")
    known: dict[str, BaseDistribution] = dict(spec.space) if spec.open_space else {}
    added, problems = [], []
    for trial in finished:
        try:
            params, space = _open(trial, known) if spec.open_space else _declared(trial, spec.space)
        except ValueError as exc:
            problems.append(f"trial {trial.number}: {exc}")
        else:
            added.append(_history(trial, params, space, shift, mark))
    if problems and not added:
        raise ImportSourceError(
            f"no trial of study {source.name!r} lies inside the space of {study!r} ({problems[0]}): nothing was"
            " imported; compare the spaces"
        )
    new = add_once(twin, added)
    return Imported(
        new,
        len(added) - new,
        len(source.trials) - len(finished),
        outside=len(problems),
        outside_example=problems[0] if problems else "",
    )


def _check(source: OptunaSource, spec: StudySpec, twin: optuna.Study) -> None:
    if source.directions != (spec.direction,):
        raise ImportSourceError(
            f"study {source.name!r} in {source.place} is to {' and '.join(source.directions)}, but this study is to"
            f" {spec.direction} {spec.metric}: import one of the same direction"
        )
    ours = {trial.number: trial for trial in twin.get_trials(deepcopy=False)}
    for trial in source.trials:
        own = ours.get(trial.number)
        if (
            own is not None
            and RESERVATION_ATTRIBUTE in trial.user_attrs
            and trial.user_attrs[RESERVATION_ATTRIBUTE] == own.user_attrs.get(RESERVATION_ATTRIBUTE)
            and trial.datetime_start == own.datetime_start
        ):
            raise ImportSourceError(
                f"study {source.name!r} in {source.place} is this study itself, or a copy of it: import another one"
            )


def _is_finished(trial: FrozenTrial) -> bool:
    """Whether the sampler can learn from a trial: with a finite value, or pruned."""
    if trial.state is TrialState.PRUNED:
        return True
    return trial.state is TrialState.COMPLETE and all(map(math.isfinite, trial.values))


def _shift(trials: list[FrozenTrial]) -> int:
    """Return 1 if the steps are numbered from 0, as in many loops of Keras; ours are completed epochs, from 1."""
    steps = [step for trial in trials for step in trial.intermediate_values]
    return int(bool(steps) and min(steps) == 0)


def _declared(trial: FrozenTrial, space: Space) -> tuple[dict[str, Any], Space]:
    """Return the parameters of a trial as the study's space has them.

    Raises:
        ValueError: they are not a configuration of it; the message is the reason.
    """
    problem = params_problem(trial.params, space)
    if problem is not None:
        raise ValueError(problem)
    own = in_space(space, trial.params)
    return _in(own, trial.params), own


def _open(trial: FrozenTrial, known: dict[str, BaseDistribution]) -> tuple[dict[str, Any], Space]:
    """Return the parameters of a trial with their own distributions, which must fit the `known` ones.

    Raises:
        ValueError: one cannot be stored, or is of another kind than in other trials; the message is the reason.
    """
    space = stored_space(trial.distributions)
    for name, distribution in space.items():
        try:
            check_distribution_compatibility(known.get(name, distribution), distribution)
        except ValueError as exc:
            raise ValueError(f"parameter {name!r} is of another kind: {exc}") from exc
        if find(distribution, trial.params[name]) is None:
            raise ValueError(
                f"parameter {name!r} is {trial.params[name]!r}, which lies outside its own range"
            )
    known.update({name: distribution for name, distribution in space.items() if name not in known})
    return _in(space, trial.params), space


def _in(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: find(distribution, params[name]) for name, distribution in space.items()}
    return {name: value[0] for name, value in found.items() if value is not None}


def _history(trial: FrozenTrial, params: dict[str, Any], space: Space, shift: int, mark: str) -> FrozenTrial:
    """Return a trial with the parameters, value, steps and constraints of another; nothing else is trusted."""
    finite = trial.values is not None and all(map(math.isfinite, trial.values))
    return create_trial(
        state=trial.state,
        values=list(trial.values) if finite else None,
        params=params,
        distributions=dict(space),
        intermediate_values={step + shift: value for step, value in trial.intermediate_values.items()},
        user_attrs={IMPORT_ATTRIBUTE: mark},
        system_attrs={
            key: value
            for key, value in trial.system_attrs.items()
            if key.startswith(_CONSTRAINT) and isinstance(value, float) and math.isfinite(value)
        },
    )
