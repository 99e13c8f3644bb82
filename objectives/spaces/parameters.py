"""The parameters of a space, declared by a class or asked for while an objective runs: those that a study can store."""

from __future__ import annotations

from optuna.distributions import (
    DISTRIBUTION_CLASSES,
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives import values
from objectives.spaces import choices

LONGEST_NAME = 512
"""Most characters of a parameter's name in Optuna's tables."""


def is_name(name: object) -> bool:
    """Whether a parameter may have this name."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()


def distribution_problem(distribution: object) -> str | None:
    """Return the reason why a distribution cannot be searched, to follow the parameter's name; None if it can."""
    if not isinstance(distribution, BaseDistribution):
        return f"must be an Optuna distribution, not {shortened(distribution)}"
    if type(distribution) is CategoricalDistribution:
        for choice in distribution.choices:
            wrong = choices.value_problem(choice)
            if wrong:
                return (
                    f"has the choice {shortened(choice)}, {wrong}, which a study cannot store: a choice is"
                    f" {choices.ALLOWED}; name others by strings, and look up the objects in your code"
                )
        return _ambiguity(distribution)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        if type(distribution) not in DISTRIBUTION_CLASSES:
            return (
                f"must be a distribution of Optuna's own, not of the class {type(distribution).__qualname__}"
            )
        return choices.number_problem(distribution)
    return f"must be a float, int or categorical distribution, not {shortened(distribution)}"


def _ambiguity(distribution: CategoricalDistribution) -> str | None:
    """Return why two choices are the same once stored."""
    seen: dict[str, object] = {}
    for choice in distribution.choices:
        key = choices.identity(choice)
        if key in seen and repr(seen[key]) != repr(choice):
            return (
                f"has the choices {shortened(seen[key])} and {shortened(choice)}, which are stored the same:"
                " leave one of them out"
            )
        seen[key] = choice
    return None


def shortened(value: object, most: int = 60) -> str:
    """Return a value's representation on one line for a message."""
    try:
        text = " ".join(repr(value).split())
    # Very large whole numbers, and objects of the user's own, which may raise anything.
    except Exception:  # noqa: BLE001
        text = f"an object {values.shown(value)}"
    return text if len(text) <= most else f"{text[: most - 1]}…"
