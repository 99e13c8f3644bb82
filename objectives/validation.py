"""Validation of an objective's declarations before it is searched over."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from objectives import values
from objectives.base import Objective
from objectives.keras_objective import KerasObjective
from objectives.recipes import declarations
from objectives.spaces import choices, space
from objectives.spaces.clauses import ConditionError
from objectives.spaces.conditions import unwrapped
from objectives.spaces.parameters import LONGEST_NAME, distribution_problem, is_name, shortened
from objectives.tasks import choice
from objectives.trial_value import RULES


def problem(objective: type[Objective]) -> str | None:
    """Return the declaration's first mistake as the end of a sentence; None if it is valid."""
    if inspect.isabstract(objective):
        missing = ", ".join(sorted(objective.__abstractmethods__))
        return f"does not define {missing}"
    train = inspect.unwrap(objective.train)
    if inspect.isgeneratorfunction(train) or inspect.iscoroutinefunction(train):
        return "train is a generator or coroutine, which nothing runs: write it without yield and async"
    try:
        values.checked_name("metric", objective.metric)
    except values.ValueRefusedError as exc:
        return f"metric must be the name of a reported number: {exc}"
    if objective.direction not in ("minimize", "maximize"):
        return f"direction must be 'minimize' or 'maximize', not {objective.direction!r}"
    if objective.value not in RULES:
        return f"value must be 'last' or 'best', not {shortened(objective.value)}"
    if objective.open_space is not False:
        return _open_space_problem(objective)
    wrong = _epochs_problem(objective.epochs)
    if wrong:
        return wrong
    if issubclass(objective, KerasObjective) and not (
        objective.dataset is None or isinstance(objective.dataset, str) or callable(objective.dataset)
    ):
        return "dataset must be a data set's name or a function that returns arrays, or None for images from --data"
    if issubclass(objective, KerasObjective) and objective.train is KerasObjective.train:
        wrong = _keras_problem(objective)
        if wrong:
            return wrong
    return _space_problem(objective.space) or _first_problem(objective)


def _open_space_problem(objective: type[Objective]) -> str | None:
    if objective.open_space is not True:
        return f"open_space must be True or False, not {shortened(objective.open_space)}"
    if issubclass(objective, KerasObjective):
        return "open_space must be False, because KerasObjective gets all parameters before it builds a model"
    if objective.space or objective.first:
        return "open_space = True needs space = {} and no first: train() asks for its parameters by run.suggest()"
    return None if objective.epochs is None else _epochs_problem(objective.epochs)


def _epochs_problem(epochs: object) -> str | None:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        return f"epochs must be a whole number of at least 1, not {epochs!r}"
    return None


def _keras_problem(objective: type[KerasObjective]) -> str | None:
    wrong = choice.problem(objective.task, objective.metrics, objective.metric)
    if wrong:
        return wrong
    own = objective.metric.removeprefix(choice.PREFIX) in choice.own_functions(objective.metrics)
    if own and not objective.sets_direction():
        return f"direction is missing, because {objective.metric} is your own: set 'minimize' or 'maximize'"
    if not (objective.loss is None or isinstance(objective.loss, str) or callable(objective.loss)):
        return "loss must be a loss of Keras, its name, or a function of targets and outputs"
    if inspect.isclass(objective.loss):
        return f"loss is the class {objective.loss.__name__}: make one of it, {objective.loss.__name__}()"
    if objective.loss is not None and objective.label_smoothing:
        return "label_smoothing applies to the default loss: leave it out, or give your loss its own"
    if not (objective.class_weight in (None, "balanced") or isinstance(objective.class_weight, Mapping)):
        return "class_weight must be 'balanced', a dict of a weight for each class, or None"
    wrong = declarations.problem(objective)
    if wrong:
        return wrong
    if objective.sampling not in ("shuffled", "balanced"):
        return f"sampling must be 'shuffled' or 'balanced', not {shortened(objective.sampling)}"
    return None


def _space_problem(declared_space: object) -> str | None:
    if not isinstance(declared_space, Mapping) or not declared_space:
        return "space must be a dict of at least one parameter name to an Optuna distribution"
    for name, declared in declared_space.items():
        if not is_name(name):
            return (
                f"space has {shortened(name)} where the name of a parameter belongs:"
                f" use 1 to {LONGEST_NAME} printable characters"
            )
        wrong = distribution_problem(unwrapped(declared))
        if wrong:
            return f"space[{name!r}] {wrong}"
    try:
        space.stored_space(declared_space)
    except ConditionError as exc:
        return str(exc)
    return None


def _first_problem(objective: type[Objective]) -> str | None:
    known = space.stored_space(objective.space)
    for index, params in enumerate(objective.first):
        where = f"first[{index}]"
        if not isinstance(params, Mapping):
            return f"{where} must be a dict of a value for each parameter, not {shortened(params)}"
        unknown = sorted(map(str, params.keys() - known.keys()))
        if unknown:
            return f"{where} names {', '.join(unknown)}, not in space"
        for name, value in params.items():
            if not choices.contains(known[name], value):
                declared = shortened(unwrapped(objective.space[name]), 120)
                return f"{where}[{name!r}] = {shortened(value)} is not in {declared}"
        missing = sorted(space.missing(known, params))
        if missing:
            return f"{where} has no value for {', '.join(missing)}"
        for name in params:
            if not space.is_active(known, name, params):
                return (
                    f"{where} has a value for {name}, which is active only if {space.conditions_text(known, name)}:"
                    " leave it out"
                )
    return None
