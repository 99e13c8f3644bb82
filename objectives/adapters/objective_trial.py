"""The trial that an Optuna objective gets: Optuna's methods, without a database behind them."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.study import StudyDirection
from optuna.trial import Trial

from objectives import values
from objectives.base import Run
from objectives.errors import MetricMissingError, RunEndedError
from objectives.trial_value import LARGEST_STEP, STEP

METRIC = "value"
"""Name of the number that an Optuna objective returns and reports."""


class ObjectiveTrial(Trial):
    """A trial of Optuna whose parameters, reports and attributes go through the run.

    A subclass because code may ask whether it got a trial or fixed parameters; it overrides all that is public.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._epochs = run.epochs()
        self._started_at = datetime.datetime.now()
        self._params: dict[str, Any] = {}
        self._distributions: dict[str, BaseDistribution] = {}
        self._user_attrs: dict[str, Any] = {}
        self._constraints: dict[str, float] = {}
        self._reported: dict[int, float] = {}
        self.study: Any = _StudyOfTrial(run)
        self._next_epoch()

    # Parameters.

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number from `low` to `high`, both included."""
        found: float = self._suggest(name, FloatDistribution(low, high, log=log, step=step))
        return found

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number from `low` to `high`, both included."""
        found: int = self._suggest(name, IntDistribution(low, high, log=log, step=step))
        return found

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        return self._suggest(name, _categorical(choices))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Return `suggest_float(name, low, high)`, as earlier versions of Optuna spelled it."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """Return `suggest_float(name, low, high, log=True)`, as earlier versions of Optuna spelled it."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Return `suggest_float(name, low, high, step=q)`, as earlier versions of Optuna spelled it."""
        return self.suggest_float(name, low, high, step=q)

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._params:
            check_distribution_compatibility(self._distributions[name], distribution)
            return self._params[name]
        self._params[name] = self._run.suggest(name, distribution)
        self._distributions[name] = distribution
        return self._params[name]

    @property
    def params(self) -> dict[str, Any]:
        """Parameters suggested so far."""
        return dict(self._params)

    @property
    def relative_params(self) -> dict[str, Any]:
        """Parameters known before they are asked for: none, because the service keeps them."""
        return {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distributions of the parameters suggested so far."""
        return dict(self._distributions)

    # Reports.

    def report(self, value: float, step: int) -> None:
        """Report the value after a step, and wait for the decision to continue.

        Raises:
            TypeError, ValueError: the value is not a number, or the step not a whole number from 0.
        """
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"The `value` argument is of type '{type(value)}' but supposed to be a float."
            ) from None
        try:
            at = int(step)
        except (TypeError, ValueError):
            raise TypeError(
                f"The `step` argument is of type '{type(step)}' but supposed to be an int."
            ) from None
        if at < 0:
            raise ValueError(f"`step={at}` must be non-negative.")
        if at > LARGEST_STEP:
            raise values.ValueRefusedError(
                f"trial.report() was given step {at}: a study stores steps to {LARGEST_STEP}, so report smaller ones"
            )
        if at in self._reported:
            warnings.warn(
                f"The reported value is ignored because this `step={at}` is already reported.", stacklevel=2
            )
            return
        self._reported[at] = number
        self._run.report(**{METRIC: number, STEP: at})
        self._next_epoch()

    def should_prune(self) -> bool:
        """Return whether the pruner ends this trial; the function then raises `optuna.TrialPruned`."""
        return self._run.prune_advised

    def _next_epoch(self) -> None:
        """Open the epoch that the next report closes.

        Raises:
            RunEndedError: the process has to end; so does each further call, if the function has caught the error.
        """
        if next(self._epochs, None) is None:
            raise RunEndedError

    def finish(self, returned: object) -> None:
        """Judge the trial by the value that the function returned.

        Raises:
            ValueRefusedError: it is not a single number.
        """
        value = _returned(returned)
        if self._run.final:
            self._run.record(**{METRIC: value})
        if self._reported:
            self._run.judge(value)
        else:
            self._run.report(**{METRIC: value, STEP: 0})

    # Attributes.

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a value with the trial."""
        self._user_attrs[key] = self._run.annotate(key, value)

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Attributes set so far."""
        return dict(self._user_attrs)

    def set_constraint(self, key: str, value: float) -> None:
        """Keep a constraint, which is violated where it is above zero."""
        if key in self._constraints:
            warnings.warn(
                f"The constraint value is ignored because this constraint `{key=}` is already set.",
                stacklevel=2,
            )
            return
        self._constraints[key] = self._run.constrain(key, value)

    @property
    def constraints(self) -> dict[str, float]:
        """Constraints set so far."""
        return dict(self._constraints)

    @property
    def number(self) -> int:
        """Number of the trial in its study."""
        return self._run.number

    @property
    def datetime_start(self) -> datetime.datetime | None:
        """Time at which this attempt began."""
        return self._started_at


class _StudyOfTrial:
    """The study of a trial as far as one of its trials may use it."""

    def __init__(self, run: Run) -> None:
        self.study_name = run.study
        self.direction = StudyDirection[run.direction.upper()]
        self.directions = [self.direction]

    def _is_multi_objective(self) -> bool:
        """Return False; Optuna's callbacks ask."""
        return False

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise values.ValueRefusedError(
            f"trial.study.{name} is not available in a trial, which knows no database: a trial may use study_name and"
            " direction"
        )


def _categorical(declared: Sequence[Any]) -> CategoricalDistribution:
    with warnings.catch_warnings():
        # Optuna's, of choices that are not plain values; those that cannot be stored are refused by name.
        warnings.simplefilter("ignore")
        return CategoricalDistribution(declared)


def _returned(value: object) -> float:
    """Return the function's result as a float."""
    if value is None:
        raise MetricMissingError("the objective returned None: return the number to optimize")
    if isinstance(value, list | tuple) and len(value) > 1:
        raise MetricMissingError(
            f"the objective returned {len(value)} values, and a study here has one: return the number to optimize, and"
            " keep others with trial.set_user_attr()"
        )
    single = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    return values.number("the value that the objective returned", single)
