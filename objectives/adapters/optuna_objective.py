"""An Optuna objective, a function of a trial, as an `Objective`: its code runs unchanged.

Its space is open: it names its parameters while it runs, so the run asks the service for each (`Run.suggest`). A
report closes an epoch of the run, and carries the step that the function gave; the returned value decides.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import (
    BaseDistribution,
)

from objectives.adapters.objective_trial import METRIC, ObjectiveTrial
from objectives.base import Objective, Params, Run
from objectives.description import Description
from objectives.errors import RunEndedError


class OptunaObjective(Objective):
    """Base of the classes that `wrap` returns."""

    metric = METRIC
    direction = "minimize"
    """Optuna's default; `--direction` chooses another."""
    epochs = None
    open_space = True
    space: ClassVar[dict[str, BaseDistribution]] = {}
    function: ClassVar[Callable[[Any], Any]]

    @classmethod
    def describe(cls, name: str) -> Description:
        """Return the declarations; a function has no direction of its own."""
        return replace(super().describe(name), declares_direction=False)

    def train(self, params: Params, run: Run) -> None:  # noqa: ARG002 - the run has them
        """Call the function with a trial of this run."""
        seed(run.seed)
        trial = ObjectiveTrial(run)
        try:
            trial.finish(type(self).function(trial))
        except RunEndedError:
            return


def wrap(function: Callable[..., Any], name: str) -> type[OptunaObjective]:
    """Return the objective of a function of a trial.

    Raises:
        ValueError: it cannot be called with a trial; the message ends a sentence that begins with its name.
    """
    if isinstance(function, type):
        function = instance(function)
        if not callable(function):
            raise ValueError("is a class whose objects cannot be called with a trial")
    try:
        inspect.signature(function).bind(None)
    except TypeError as exc:
        raise ValueError(f"must take one argument, the trial ({exc})") from None
    except ValueError:
        # A function of an extension module may have no signature.
        pass
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ValueError("must return a number: it is a coroutine or generator")
    attributes = {"function": staticmethod(function), "__doc__": inspect.getdoc(function)}
    return type(name, (OptunaObjective,), attributes)


def instance(cls: type) -> Any:
    """Return an object of a class that a reference names.

    Raises:
        ValueError: it needs arguments; the message ends a sentence that begins with its name.
    """
    try:
        return cls()
    except TypeError as exc:
        raise ValueError(
            f"is a class that needs arguments ({exc}): name an object of it, as in objective = {cls.__name__}(…)"
        ) from None


def seed(number: int) -> None:
    """Seed the generators that an objective may use, so that a run can be repeated."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(number % 2**32)
    else:
        random.seed(number)
        np.random.seed(number % 2**32)
