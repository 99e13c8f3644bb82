"""Parameters that are active only for some values of others, as an objective declares them in its space.

    space = {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.99)),
        "layers": IntDistribution(1, 3),
        "units_3": When("layers", at_least(3), IntDistribution(16, 256)),
    }

An inactive parameter is not sampled, and `train` gets a configuration without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Bounds:
    """The numbers from `low` to `high`, both included; None: no bound."""

    low: float | None = None
    high: float | None = None


def at_least(low: float) -> Bounds:
    """Return the condition of a parent that is a number from `low` on."""
    return Bounds(low=low)


def at_most(high: float) -> Bounds:
    """Return the condition of a parent that is a number up to `high`."""
    return Bounds(high=high)


@dataclass(frozen=True)
class When:
    """A parameter that is active only where another one, its parent, is active and has one of some values.

    `values` is a value of the parent, a list of values, `at_least(…)` or `at_most(…)`. Several conditions must all
    hold: `When("a", 1, When("b", 2, distribution))`.
    """

    parent: str
    values: Any
    distribution: BaseDistribution | When


def unwrapped(declared: Any) -> Any:
    """Return the distribution of a declared parameter without its conditions."""
    while isinstance(declared, When):
        declared = declared.distribution
    return declared


def conditions(declared: object) -> Iterator[When]:
    """Yield the conditions of a declared parameter, the outermost first."""
    while isinstance(declared, When):
        yield declared
        declared = declared.distribution
