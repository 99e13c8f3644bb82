"""The rules of a run: epochs that it trains, calls that it refuses, and the epoch that a saved state belongs to.

Runs by hand and runs of the service share them, so both accept and refuse the same. History and state belong together:
a state saved before the report of an epoch, or after it and before the next epoch, is the state after that epoch. An
interrupted run resumes after the epoch of its last saved state, else at epoch 1 without a state.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from optuna.distributions import BaseDistribution

from objectives import values
from objectives.base import Objective, Params, Run, State
from objectives.errors import DivergedError, MetricMissingError, MetricUnknownError, check_finite
from objectives.runs.records import check_size, plain_records
from objectives.spaces import choices, parameters
from objectives.states import copy_state

OWN_ATTRIBUTES = "hpo_"
"""Beginning of the names of user attributes that the service sets."""


class CheckedRun(Run):
    """A `Run` that applies the rules; subclasses keep and send the accepted values."""

    results: dict[str, Any]
    """Results that `record` has got."""
    metric: str | None
    """Metric that each report must contain, except in a final run; None: that of the objective."""

    _completed: int = 0
    """Number of epochs reported, those before an interruption included."""
    _epoch: int = 0
    """Epoch in progress, or the last one; 0 before the first."""
    _unreported: State | None = None
    """State saved in the epoch in progress."""
    value: float | None = None
    """Value that the objective set by `judge`; None: the metric of the last report decides."""
    _diverged: DivergedError | None = None
    _in_train: bool = False
    _open_space: bool = True
    """Whether the objective asks for its parameters."""
    _given: Mapping[str, Any] = MappingProxyType({})
    """Parameters that the objective got at its start: those of a retrain, or of an earlier attempt."""

    def epochs(self) -> Iterator[int]:
        while self._completed < self.total_epochs:
            if self._diverged is not None:
                raise self._diverged
            epoch = self._completed + 1
            if not self._begin(epoch):
                self.ended_early = True
                return
            self._epoch, self._unreported = epoch, None
            yield epoch
            if self._completed < epoch:
                raise MetricMissingError(f"train() ended epoch {epoch} without calling run.report()")

    def save(self, state: State) -> None:
        copied = copy_state(state)
        if self._epoch > self._completed:
            self._unreported = copied
        # The state that a run has resumed stays, also where an objective saves one before its loop.
        elif self._diverged is None and (self._epoch or not self._completed):
            self._keep(copied)

    def report(self, **metrics: float) -> None:
        reported = values.metrics(metrics)
        if self._epoch == 0:
            raise MetricMissingError("run.report() was called outside the loop over run.epochs()")
        if self.metric is not None and self.metric not in reported and not self.final:
            raise MetricUnknownError(
                f"run.report() was given {', '.join(reported) or 'nothing'}, but not {self.metric!r},"
                " the objective's metric: report it, or set metric to one of these names"
            )
        if self._completed >= self._epoch:
            raise MetricMissingError(f"run.report() was called again in epoch {self._epoch}: once an epoch")
        self._completed = self._epoch
        state, self._unreported = self._unreported, None
        try:
            check_finite(reported, self.metric, self._epoch)
        except DivergedError as exc:
            self._diverged = exc
            # No state to resume from.
            self._close(reported, None)
            raise
        self._close(reported, state)
        self._decide()

    def judge(self, value: float) -> None:
        judged = values.number("the value of the trial", value)
        if not math.isfinite(judged):
            self._diverged = DivergedError(f"the value of the trial is {judged}")
            raise self._diverged
        self.value = judged

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self._check_parameter(name, distribution)
        value = self._value(name, distribution)
        found = choices.find(distribution, value)
        return value if found is None else found[0]

    def _check_parameter(self, name: str, distribution: BaseDistribution) -> None:
        if not self._open_space:
            raise values.ValueRefusedError(
                f"run.suggest() was called for {values.shown(name)}, but the objective declares its space: declare the"
                " parameter there, or set open_space = True, epochs = None and space = {}"
            )
        if not parameters.is_name(name):
            raise values.ValueRefusedError(
                f"the name of a parameter is {values.shown(name)}: use 1 to {parameters.LONGEST_NAME} printable"
                " characters"
            )
        wrong = parameters.distribution_problem(distribution)
        if wrong:
            raise values.ValueRefusedError(f"the parameter {name!r} {wrong}")

    def _value(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._given:
            if self.final:
                raise ValueError(
                    f"the configuration has no value for the parameter {name!r}, which the objective asks for: it"
                    " depends on more than its parameters, or its code has changed"
                )
        elif self.final or choices.contains(distribution, self._given[name]):
            value = self._given[name]
            if not choices.contains(distribution, value):
                warnings.warn(
                    f"The value {value!r} of the parameter {name!r} is out of the range of {distribution}.",
                    stacklevel=4,
                )
            return value
        return self._sample(name, choices.stored_distribution(distribution))

    def annotate(self, name: str, value: Any) -> Any:
        if values.is_a(name, str) and str.startswith(name, OWN_ATTRIBUTES):
            raise values.ValueRefusedError(
                f"the attribute {name!a} is the service's own: choose a name that does not begin with {OWN_ATTRIBUTES}"
            )
        ((plain_name, plain),) = plain_records({name: value}, "attribute").items()
        self._keep_attribute(plain_name, plain)
        return plain

    def constrain(self, name: str, value: float) -> float:
        plain_name = values.checked_name("constraint", name)
        number = values.number(f"the constraint {plain_name!a}", value)
        if not math.isfinite(number):
            raise values.ValueRefusedError(
                f"the constraint {plain_name!a} is {number}: give a finite number, above zero where it is violated"
            )
        self._keep_constraint(plain_name, number)
        return number

    def measure(self, **figures: float) -> None:
        measured = values.metrics(figures)
        bad = [name for name, value in measured.items() if not math.isfinite(value)]
        if bad:
            raise values.ValueRefusedError(
                f"run.measure() was given {bad[0]} = {measured[bad[0]]}: give finite numbers"
            )
        self._keep_figures(measured)

    def record(self, **results: Any) -> None:
        together = {**self.results, **plain_records(results)}
        check_size(together)
        self.results = together

    def check_end(self) -> None:
        """Check that `train` may return now.

        Raises:
            MetricMissingError: no epoch was reported.
            DivergedError: a report was not finite, and `train` has ignored the error.
        """
        if self._diverged is not None:
            raise self._diverged
        if self._completed == 0 and not self.ended_early:
            raise MetricMissingError("train() returned without a reported epoch: loop over run.epochs()")

    @contextmanager
    def _training(self, objective: Objective, params: Params) -> Iterator[None]:
        if self._in_train:
            yield
            return
        self._in_train, self.metric = True, self.metric or objective.metric
        self._open_space, self._given = objective.open_space, dict(params)
        try:
            yield
        finally:
            self._in_train = False
        self.check_end()

    @abstractmethod
    def _begin(self, epoch: int) -> bool:
        """Return whether the run may train this epoch; wait while it is paused."""

    @abstractmethod
    def _close(self, metrics: dict[str, float], state: State | None) -> None:
        """Keep a reported epoch, with the state after it if one was saved."""

    @abstractmethod
    def _keep(self, state: State) -> None:
        """Keep a state that was saved after the report of its epoch."""

    @abstractmethod
    def _sample(self, name: str, distribution: BaseDistribution) -> Any:
        """Return a value of a parameter in its stored form, the same one for each call in this trial."""

    @abstractmethod
    def _keep_attribute(self, name: str, value: Any) -> None:
        """Keep a plain value as an attribute of the trial."""

    @abstractmethod
    def _keep_constraint(self, name: str, value: float) -> None:
        """Keep a finite constraint of the trial."""

    def _keep_figures(self, figures: Mapping[str, float]) -> None:
        """Keep those of the figures that the study asks for."""

    def _decide(self) -> None:
        """Wait for the decision to continue after a report."""
