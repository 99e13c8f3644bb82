"""Options of a launch that its objective or its study does not allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hpo.errors import StudyConflictError, UsageError
from hpo.options.defaults import CURVES, GRID, NO_PRUNER
from hpo.options.fields import NONE
from hpo.options.launch_request import LaunchRequest
from hpo.search import finite, freeze_thaw
from hpo.search.spec import StudySpec
from objectives.description import Description
from objectives.runs.figures import MEASURED, REPORTED, parse, unknown


def check_open_space(request: LaunchRequest, description: Description) -> None:
    """Raise UsageError if the request has an option that does not apply to this kind of objective."""
    if description.declares_direction and request.direction not in (None, description.direction):
        raise UsageError(
            f"--direction {request.direction}: the objective declares that it is to {description.direction}"
            f" {description.metric}: leave --direction out, or change the objective"
        )
    if not description.declares_direction and request.value:
        raise UsageError(
            "--value does not apply to an Optuna objective, because the value that it returns decides: leave it out"
        )
    if request.folds is not None and not description.takes_folds and not description.open_space:
        raise UsageError(
            f"--folds does not apply to objective {description.name}, which trains or loads data by code of its own:"
            " leave it out, or write a KerasObjective with build() alone"
        )
    if request.pruner == freeze_thaw.NAME and request.epochs is None and description.epochs is None:
        raise UsageError(
            f"--pruner {request.pruner} does not apply to an Optuna objective, because it trains as long as its own"
            " code says: choose another pruner"
        )
    if request.max_epochs not in (None, NONE) and request.epochs is None and description.epochs is None:
        raise UsageError(
            "--max-epochs does not apply to an Optuna objective, because only its own code knows what an epoch is:"
            " limit the search by --trials or --timeout"
        )
    if not description.open_space:
        return
    declares = description.epochs is not None
    kind = "an objective with an open space" if declares else "an Optuna objective"
    for option, value, remedy in (
        ("--epochs", not declares and request.epochs, "the objective trains as long as its own code says"),
        ("--limit", request.limit, "the objective loads its data itself"),
        ("--folds", request.folds, "the objective splits its data itself"),
    ):
        if value:
            raise UsageError(f"{option} does not apply to {kind}, because {remedy}: leave it out")


OF_AGENTS = (
    *("study", "workers", "engine", "ray", "timeout_seconds", "images", "max_failed", "max_lost"),
    *("checkpoint_quota_bytes", "space", "code", "run", "agent"),
)
"""Fields of a launch that do not change which trials a study trains, nor how."""


def check_design(spec: StudySpec, request: LaunchRequest) -> None:
    """Raise StudyConflictError if a request has options of a search, and its study is an experiment."""
    if spec.design is None:
        return
    for one in fields(request):
        if one.name not in OF_AGENTS and getattr(request, one.name) != one.default:
            names = one.metadata.get("names") or (f"--{one.name.replace('_', '-')}",)
            raise StudyConflictError(
                f"study {request.study!r} is an experiment, whose runs are planned: leave {names[0]} out, or change it"
                f" with hpo ablate --study {spec.design.study}"
            )


def check_grid(spec: StudySpec) -> None:
    """Raise UsageError if the study's sampler is to enumerate a space that it cannot."""
    if spec.sampler != GRID:
        return
    reason = (
        "the objective names its parameters while it runs: use another sampler"
        if spec.open_space
        else finite.problem(spec.space)
    )
    if reason is not None:
        raise UsageError(f"--sampler {GRID} trains each configuration once, but {reason}")


def check_figures(request: LaunchRequest, description: Description) -> None:
    """Raise UsageError if the request asks for a figure or a second objective that the objective cannot have."""
    asked = [("--constraint", parse(text).figure, text) for text in request.constraint]
    second = request.also_minimize
    if second is not None and not second.strip():
        raise UsageError(
            f"--also-minimize {second!r} names no figure: name one, such as --also-minimize parameters"
        )
    asked += [] if second is None else [("--also-minimize", second, second)]
    for option, figure, text in asked:
        if description.epochs is None and request.epochs is None:
            raise UsageError(
                f"{option} does not apply to an Optuna objective: set its constraints in the code, by"
                " trial.set_constraint, or write an objective of this service"
            )
        known = {*MEASURED, *description.metrics, *REPORTED, description.metric}
        # Functions of the objective's own are metrics of validation too.
        if description.builds_models and figure not in known and not figure.startswith("val_"):
            raise UsageError(f"{option} {text}: trials have no figure {figure!r}: {unknown(figure, known)}")
    if second is not None and second == description.metric:
        raise UsageError(
            f"--also-minimize {second}: it is the metric of the study already: name another figure"
        )
    if second is not None and request.pruner not in (None, NO_PRUNER):
        raise UsageError(
            f"--pruner {request.pruner} does not apply to a study with --also-minimize, because a trial that is worse"
            f" in {description.metric} may be the best in {second}: leave --pruner out"
        )


def check_front(spec: StudySpec) -> None:
    """Raise UsageError if the study's sampler knows one objective only, and the study has two."""
    if spec.also_minimize is not None and spec.sampler == "cmaes":
        raise UsageError(
            f"--sampler {spec.sampler} minimizes one objective, and the study has --also-minimize"
            f" {spec.also_minimize}: use tpe, gp, random or qmc"
        )


def check_curves(spec: StudySpec) -> None:
    """Raise UsageError if the study's sampler is the model of curves, which the study does not have, or is bounded."""
    if spec.sampler == CURVES and spec.constraints:
        raise UsageError(
            f"--sampler {CURVES} learns nothing from configurations that violate a --constraint: use tpe, which does"
        )
    if spec.sampler == CURVES and not spec.curve_model:
        reason = (
            "the objective names its parameters while it runs"
            if spec.open_space
            else f"the study was not created with --pruner {freeze_thaw.NAME}"
            if spec.pruner != freeze_thaw.NAME
            else "the study has compared ranks since its --epochs were raised"
            if spec.restarts
            else "the study began with an earlier version, which compares ranks"
            if spec.rungs
            else "the space has no parameter"
        )
        raise UsageError(
            f"--sampler {CURVES} proposes by the learning curves of paused trials, but {reason}: use another sampler"
        )


def check_repeats(spec: StudySpec, trials: int) -> None:
    """Raise UsageError if a budget of so many trials leaves none that could be repeated."""
    if spec.repeats is not None and trials <= spec.repeats:
        raise UsageError(
            f"--repeats {spec.repeats} are the last of all trials, and --trials {trials} leaves none to repeat: use"
            f" --trials {spec.repeats + 1} or more, or fewer repeats"
        )


def check_options(study: str, spec: StudySpec, request: LaunchRequest, reference: str) -> None:
    """Raise StudyConflictError if the request has other options than the study was created with."""
    requested: Sequence[tuple[str, Any, Any]] = (
        ("--objective", request.objective and reference, spec.objective),
        ("--metric", request.metric, spec.metric),
        ("--direction", request.direction, spec.direction),
        ("--value", request.value, spec.value),
        ("--epochs", request.epochs, spec.epochs),
        ("--limit", request.limit, spec.data.limit),
        ("--folds", request.folds, spec.data.folds),
        ("--task", request.images.task, spec.data.task),
        ("--image-size", request.images.image_size, spec.data.image_size),
        ("--image-fit", request.images.image_fit, spec.data.image_fit),
        ("--test-fraction", request.images.test_fraction, spec.data.test_fraction),
        ("--pruner", request.pruner, spec.pruner),
        ("--seed", request.seed, spec.seed),
        ("--also-minimize", request.also_minimize, spec.also_minimize),
    )
    for option, wanted, stored in requested:
        if wanted is not None and wanted != stored:
            original = f"{option} {stored}" if stored is not None else f"no {option}"
            raise StudyConflictError(
                f"study {study!r} was created with {original}, not {wanted}, and its trials must stay"
                f" comparable: leave {option} out to continue it, or create another study with --study"
            )
    constraints = {str(parse(text)) for text in request.constraint}
    if constraints and constraints != {*spec.constraints}:
        original = ", ".join(f"--constraint {one}" for one in spec.constraints) or "no --constraint"
        raise StudyConflictError(
            f"study {study!r} was created with {original}, and its trials must stay comparable: leave --constraint out"
            " to continue it, or create another study with --study"
        )
