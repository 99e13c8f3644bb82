"""Validation of an objective's declarations before it is searched over."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from optuna.distributions import (
    DISTRIBUTION_CLASSES,
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives import choices, values
from objectives.base import Objective
from objectives.keras_objective import REPORTED, KerasObjective

_LONGEST_NAME = 512
"""Most characters of a parameter's name in Optuna's tables."""


def problem(objective: type[Objective]) -> str | None:
    """Return the declaration's first mistake as the end of a sentence; None if it is valid."""
    if inspect.isabstract(objective):
        missing = ", ".join(sorted(objective.__abstractmethods__))
        return f"does not define {missing}"
    try:
        values.checked_name("metric", objective.metric)
    except values.ValueRefusedError as exc:
        return f"metric must be the name of a reported number: {exc}"
    if objective.direction not in ("minimize", "maximize"):
        return f"direction must be 'minimize' or 'maximize', not {objective.direction!r}"
    if objective.open_space:
        return None
    if isinstance(objective.epochs, bool) or not isinstance(objective.epochs, int) or objective.epochs < 1:
        return f"epochs must be a whole number of at least 1, not {objective.epochs!r}"
    if issubclass(objective, KerasObjective) and not (
        isinstance(objective.dataset, str) or callable(objective.dataset)
    ):
        return "dataset must be a data set's name or a function that returns arrays"
    if _lacks_metric(objective):
        return (
            f"metric {objective.metric!r} is not among those that KerasObjective.train reports ({', '.join(REPORTED)}):"
            " choose one of them, or write train()"
        )
    return _space_problem(objective.space) or _first_problem(objective)


def _lacks_metric(objective: type[Objective]) -> bool:
    inherits = issubclass(objective, KerasObjective) and objective.train is KerasObjective.train
    return inherits and objective.metric not in REPORTED


def _space_problem(space: object) -> str | None:
    if not isinstance(space, Mapping) or not space:
        return "space must be a dict of at least one parameter name to an Optuna distribution"
    for name, distribution in space.items():
        if not isinstance(name, str) or not name or not name.isprintable() or len(name) > _LONGEST_NAME:
            return (
                f"space has {_shortened(name)} where the name of a parameter belongs:"
                f" use 1 to {_LONGEST_NAME} printable characters"
            )
        if not isinstance(distribution, BaseDistribution):
            return f"space[{name!r}] must be an Optuna distribution, not {_shortened(distribution)}"
        wrong = _distribution_problem(distribution)
        if wrong:
            return f"space[{name!r}] {wrong}"
    return None


def _distribution_problem(distribution: BaseDistribution) -> str | None:
    if type(distribution) is CategoricalDistribution:
        for choice in distribution.choices:
            wrong = choices.value_problem(choice)
            if wrong:
                return (
                    f"has the choice {_shortened(choice)}, {wrong}, which a study cannot store: a choice is"
                    f" {choices.ALLOWED}; name the choices by strings, and look up the objects in train()"
                )
        return _ambiguity(distribution)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        if type(distribution) not in DISTRIBUTION_CLASSES:
            return (
                f"must be a distribution of Optuna's own, not of the class {type(distribution).__qualname__}"
            )
        return choices.number_problem(distribution)
    return f"must be a float, int or categorical distribution, not {_shortened(distribution)}"


def _ambiguity(distribution: CategoricalDistribution) -> str | None:
    """Return why two choices cannot be told apart once stored."""
    seen: dict[str, object] = {}
    for choice in distribution.choices:
        key = choices.identity(choice)
        if key in seen and repr(seen[key]) != repr(choice):
            return (
                f"has the choices {_shortened(seen[key])} and {_shortened(choice)}, which are stored the same:"
                " leave one of them out"
            )
        seen[key] = choice
    return None


def _first_problem(objective: type[Objective]) -> str | None:
    space = objective.space
    for index, params in enumerate(objective.first):
        where = f"first[{index}]"
        if not isinstance(params, Mapping):
            return f"{where} must be a dict of a value for each parameter, not {_shortened(params)}"
        missing, unknown = (
            sorted(space.keys() - params.keys()),
            sorted(map(str, params.keys() - space.keys())),
        )
        if missing:
            return f"{where} has no value for {', '.join(missing)}"
        if unknown:
            return f"{where} names {', '.join(unknown)}, not in space"
        for name, value in params.items():
            if not choices.contains(space[name], value):
                return f"{where}[{name!r}] = {_shortened(value)} is not in {_shortened(space[name], 120)}"
    return None


def _shortened(value: object, most: int = 60) -> str:
    """Return a value's representation on one line for a message."""
    try:
        text = " ".join(repr(value).split())
    # Very large whole numbers, and objects of the user's own, which may raise anything.
    except Exception:  # noqa: BLE001
        text = f"an object {values.shown(value)}"
    return text if len(text) <= most else f"{text[: most - 1]}…"
