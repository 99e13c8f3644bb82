"""The spec that a launch requests: that of a new study, or the one on which the request and the study agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from hpo.devices import provenance
from hpo.errors import StudyConflictError
from hpo.options.defaults import CURVES, GRID, NO_PRUNER, LaunchDefaults
from hpo.options.fields import NONE
from hpo.options.launch_request import LaunchRequest
from hpo.search import finite
from hpo.search.open_overrides import checked
from hpo.search.pruners import freeze_thaw_of
from hpo.search.samplers import startup_trials
from hpo.search.space_changes import with_space
from hpo.search.space_overrides import narrow_space
from hpo.search.spec import StudySpec
from hpo.search.starting.starting_points import known_good_parts
from hpo.study.definition import identity
from hpo.study.definition.launch_options import check_figures, check_open_space, check_options
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.definition.selected_metric import kept_metric, selected
from hpo.study.definition.study_data import check_images, requested_data
from objectives.base import DataOptions, Direction
from objectives.description import Description
from objectives.runs.figures import parse
from objectives.spaces.space import Space, same_space
from objectives.trial_value import ValueRule
from storage.engine import Database

LIMITS = (
    "checkpoint_quota_bytes",
    "trial_timeout_seconds",
    "target",
    "patience",
    "max_epochs",
    "repeats",
    "stop_when_flat",
)
"""Limits and goals of a study, which any launch may set, change or remove."""


def data_of(request: LaunchRequest, existing: LaunchedStudy | None, digest: str = "") -> DataOptions:
    """Return the data that the study trains on; `digest` is that of its own images as they are now."""
    stored = existing.spec.data if existing is not None else DataOptions()
    begun = existing is not None and existing.begun
    return replace(requested_data(request, stored, begun=begun), digest=digest)


def requested_space(request: LaunchRequest, description: Description, digest: str = "") -> Space:
    """Return the space of the study that the request would create.

    Raises:
        UsageError: an option does not apply to the objective.
        UnknownParameterError, InvalidParameterError: a `--param` does not fit the space.
    """
    judged = selected(description, request.metric)
    check_open_space(request, judged)
    check_figures(request, judged)
    check_images(request, description, data_of(request, None, digest))
    return Space() if description.open_space else narrow_space(description.space, request.params)


def with_metric(
    description: Description, request: LaunchRequest, existing: LaunchedStudy | None
) -> Description:
    """Return the description with the requested metric, or the one that the study has selected before."""
    if request.metric is None and existing is not None and existing.spec.selects_metric:
        return kept_metric(description, existing.spec.metric)
    return selected(description, request.metric)


def agreed_spec(
    database: Database,
    existing: LaunchedStudy,
    request: LaunchRequest,
    reference: str,
    description: Description,
) -> StudySpec:
    """Return the spec that the study and the request agree on."""
    try:
        identity.check_declarations(existing.name, existing.spec, description, request)
        spec = with_space(database, existing.study_id, existing.spec, request, description)
        check_options(existing.name, existing.spec, request, reference)
    except StudyConflictError:
        keeps_narrowing = existing.spec.narrowed and not request.params
        changed_space = not same_space(description.space, existing.spec.objective_space)
        if existing.begun or existing.spec.design is not None or (keeps_narrowing and changed_space):
            raise
        # A launch failed before its first trial, so no trial has to stay comparable.
        spec = new_spec(_with_stored(request, existing.spec, reference), reference, description)
        if spec.open_space:
            spec = replace(spec, narrowing=spec.narrowing or existing.spec.narrowing)
        elif keeps_narrowing:
            space = existing.spec.space
            spec = replace(spec, space=space, first=known_good_parts(description.first, space))
    sampler, earlier = request.sampler or spec.sampler, spec.earlier_samplers
    if existing.begun and sampler != spec.sampler:
        earlier += ((spec.sampler, existing.reserved),)
    return replace(
        spec,
        objective_epochs=description.epochs,
        objective_value=description.value,
        objective_metric=description.metric,
        code=description.code or spec.code,
        backend=spec.backend if existing.begun else provenance.backend(),
        takes_restarts=description.takes_restarts,
        sampler=sampler,
        earlier_samplers=earlier,
        startup=startup_trials(request.trials or existing.budget),
        max_failed=request.max_failed or existing.spec.max_failed,
        max_lost=request.max_lost or existing.spec.max_lost,
        **_limits(request, existing.spec),
    )


def _limits(request: LaunchRequest, stored: StudySpec | None = None) -> dict[str, Any]:
    """Return the requested limits and goals, else the stored ones."""
    requested = {name: getattr(request, name) for name in LIMITS}
    kept = {name: getattr(stored, name, None) for name, value in requested.items() if value is None}
    return {name: None if value == NONE else value for name, value in requested.items()} | kept


def new_spec(request: LaunchRequest, reference: str, description: Description) -> StudySpec:
    defaults = LaunchDefaults()
    space = Space() if description.open_space else narrow_space(description.space, request.params)
    trials = request.trials or defaults.trials
    judged = selected(description, request.metric)
    sampler = request.sampler or _default_sampler(request, description, space, trials)
    spec = StudySpec(
        objective=reference,
        metric=judged.metric,
        # `check_open_space` has accepted it.
        direction=cast("Direction | None", request.direction) or judged.direction,
        value=cast("ValueRule | None", request.value) or description.value,
        epochs=request.epochs or description.epochs,
        space=space,
        objective_space=description.space,
        open_space=description.open_space,
        narrowing=checked(request.params) if description.open_space else (),
        objective_epochs=description.epochs,
        objective_value=description.value,
        objective_metric=description.metric,
        code=description.code,
        takes_restarts=description.takes_restarts,
        first=known_good_parts(description.first, space),
        sampler=sampler,
        pruner=_pruner(request, description, space, trials, sampler),
        backend=provenance.backend(),
        seed=defaults.seed if request.seed is None else request.seed,
        startup=startup_trials(trials),
        max_failed=request.max_failed or defaults.max_failed,
        max_lost=request.max_lost or defaults.max_lost,
        constraints=tuple(dict.fromkeys(str(parse(text)) for text in request.constraint)),
        also_minimize=request.also_minimize,
        **_limits(request),
    )
    # A model needs parameters that it knows before a trial begins.
    spec = replace(spec, curve_model=freeze_thaw_of(spec) is not None and bool(space))
    # The model proposes without regard to constraints, and TPE with it.
    if spec.curve_model and request.sampler is None and spec.sampler != GRID and not spec.constraints:
        spec = replace(spec, sampler=CURVES)
    rule = freeze_thaw_of(spec)
    return spec if rule is None else replace(spec, rungs=tuple(rule.one_in.items()))


def _default_sampler(request: LaunchRequest, description: Description, space: Space, trials: int) -> str:
    """Return the default sampler of a study: a space that is not larger than the budget is enumerated.

    It would not learn from earlier studies, so where the request names some, the sampler proposes an order.
    """
    if description.open_space or request.learn_from not in (None, NONE):
        return LaunchDefaults.sampler
    number = finite.size(space)
    return GRID if number is not None and number <= trials else LaunchDefaults.sampler


def _pruner(request: LaunchRequest, description: Description, space: Space, trials: int, sampler: str) -> str:
    """Return the requested pruner of a new study, or its default.

    Trials pause by default where that has been measured: trained by the service's own loop, which resumes them after
    any epoch, and proposed by the model of their curves.
    """
    if request.also_minimize is not None:
        # The other objective of an unpromising trial may be the best.
        return NO_PRUNER
    defaults = LaunchDefaults()
    modelled = (
        request.sampler is None and sampler == defaults.sampler and not request.constraint and bool(space)
    )
    epochs = request.epochs or description.epochs
    return request.pruner or defaults.pruner_for(
        trials, epochs, pauses=modelled and description.takes_restarts
    )


def _with_stored(request: LaunchRequest, stored: StudySpec, reference: str) -> LaunchRequest:
    """Fill the options that the request leaves open from the stored spec, as far as they fit its objective."""
    # Values of the objective's own change with it.
    same = reference == stored.objective
    return replace(
        request,
        metric=request.metric or (stored.metric if same and stored.selects_metric else None),
        epochs=request.epochs
        or (stored.epochs if same and stored.epochs != stored.objective_epochs else None),
        value=request.value or (stored.value if same and stored.value != stored.objective_value else None),
        limit=request.limit or stored.data.limit,
        folds=request.folds or (stored.data.folds if same else None),
        # The model of curves comes with its pruner.
        sampler=request.sampler or (None if stored.sampler == CURVES else stored.sampler),
        pruner=request.pruner or stored.pruner,
        constraint=request.constraint or stored.constraints,
        also_minimize=request.also_minimize or stored.also_minimize,
        seed=stored.seed if request.seed is None else request.seed,
    )
