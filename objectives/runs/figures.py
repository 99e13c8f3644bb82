"""Figures of a configuration besides its metric, such as the number of parameters, and constraints on them.

A figure of the model is known before it trains; any metric that an epoch reports is a figure too.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from hpo.errors import UsageError
from objectives.errors import Infeasible

PARAMETERS, MODEL_BYTES, LATENCY = OF_MODELS = ("parameters", "model_bytes", "latency_ms")
"""Figures that the service measures of Keras models, before they train."""
EPOCH_SECONDS = "seconds_per_epoch"
"""Median time of a trial's epochs."""
MEASURED = (*OF_MODELS, EPOCH_SECONDS)
"""Figures that the service measures; none is negative."""
SPEED = "images_per_second"
"""Speed of an epoch, which is reported with its metrics and measures the host, not the configuration."""
REPORTED = ("loss", "accuracy", SPEED, "learning_rate", "val_loss")
"""Metrics that a KerasObjective reports besides those of its task."""

_CONSTRAINT = re.compile(r"\s*(?P<figure>[^<>=]*[^<>=\s])\s*(?P<relation><=|>=)\s*(?P<bound>[^<>=]+)")


class ConstraintViolatedError(Infeasible):
    """A figure violates a constraint of the study, so that the trial ends."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A bound of a figure, which it may reach."""

    figure: str
    relation: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.figure}{self.relation}{plain(self.bound)}"

    def violation(self, value: float) -> float:
        """Return by how many times the size of the bound a value violates it; 0 or less if it does not."""
        beyond = value - self.bound if self.relation == "<=" else self.bound - value
        size = abs(self.bound) or 1.0
        return math.inf if math.isnan(beyond) else beyond / size

    def problem(self, value: float) -> str:
        """Return how a value violates the constraint; empty if it does not."""
        if self.violation(value) <= 0:
            return ""
        sign = ">" if self.relation == "<=" else "<"
        return f"{self.figure} is {plain(value)} {sign} {plain(self.bound)} (--constraint)"


def parse(text: str) -> Constraint:
    """Return the constraint that a text states, such as `parameters<=500000`.

    Raises:
        UsageError: it states none.
    """
    found = _CONSTRAINT.fullmatch(text)
    try:
        bound = float(found["bound"]) if found else math.nan
    except ValueError:
        bound = math.nan
    if found is None or not math.isfinite(bound):
        raise UsageError(
            f"--constraint {text!r} is not a bound of a figure: write NAME<=NUMBER or NAME>=NUMBER in quotes, as in"
            " --constraint 'parameters<=500000'"
        )
    relation = cast('Literal["<=", ">="]', found["relation"])
    return Constraint(figure=found["figure"], relation=relation, bound=bound)


def first_problem(constraints: Iterable[Constraint], figures: Mapping[str, float]) -> str:
    """Return how the figures violate the first of the constraints that they violate; empty if they fulfil all."""
    problems = (one.problem(figures[one.figure]) for one in constraints if one.figure in figures)
    return next((problem for problem in problems if problem), "")


def unknown(figure: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on a figure that trials do not have: the nearest names of those that they have."""
    names = sorted(known)
    near = difflib.get_close_matches(figure, names, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}"


def plain(value: float) -> str:
    """Return a number without an exponent where it is a whole one of up to 15 digits."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
