"""The training of a KerasTuner model builder: its epochs go to the run, and its last value decides."""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hpo.errors import ObjectiveBrokenError
from objectives import saved_model
from objectives.base import Run
from objectives.errors import MetricMissingError, MetricUnknownError, RunEndedError
from objectives.values import number


@dataclass(frozen=True)
class FitData:
    """The arguments that `fit` gets in every trial, and the data of the final evaluation."""

    args: tuple[Any, ...] = ()
    """Training data: inputs and labels, or a data set."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    has_test: bool = False
    test: tuple[Any, ...] = ()
    """Test data; empty except in a final run."""


class BuilderFit:
    """One run of a hypermodel: an object with `build(hp)` and, optionally, `fit` and `evaluate`."""

    def __init__(self, hypermodel: Any, data: FitData, metric: str, run: Run) -> None:
        self._hypermodel = hypermodel
        self._data = data
        self._metric = metric
        self._run = run
        self._evaluate = getattr(hypermodel, "evaluate", None)
        self._planned: int | None = None
        """Number of epochs that the calls of the model's fit asked for; None before the first."""

    def run(self, hp: Any) -> None:
        """Build the model, fit it, and in a final run evaluate it on the test data once.

        Raises:
            ObjectiveBrokenError: `fit` trains for more epochs than the run has, or the test data cannot be used.
            MetricMissingError: neither the epochs nor the result of `fit` have the metric.
            RunEndedError: the process has to end.
        """
        model = self._hypermodel.build(hp)
        if model is None:
            raise ObjectiveBrokenError("build() returned None: return the compiled model")
        reports = reporter(self._run)
        try:
            result = self._fit(hp, model, reports)
        except MetricUnknownError as exc:
            raise MetricUnknownError(f'{exc} (objective = "…" in the file)') from None
        if self._run.ended_early:
            return
        self._settle(result, reports)
        if self._data.has_test and self._evaluate is None and self._planned is None:
            raise ObjectiveBrokenError(_EVALUATE.format("trains without the model's own fit"))
        if self._run.final:
            self._finish(hp, model)

    def _fit(self, hp: Any, model: Any, reports: Reports) -> Any:
        kwargs = {**self._data.kwargs, "callbacks": [*(self._data.kwargs.get("callbacks") or ()), reports]}
        if not _is_keras(model):
            return self._own_fit(hp, model, kwargs)
        with self._supervised(model, reports):
            if getattr(self._hypermodel, "fit", None) is None:
                return model.fit(*self._data.args, **kwargs)
            return self._own_fit(hp, model, kwargs)

    def _own_fit(self, hp: Any, model: Any, kwargs: dict[str, Any]) -> Any:
        fit = getattr(self._hypermodel, "fit", None)
        if fit is None:
            raise ObjectiveBrokenError(
                f"build() returned an object of type {type(model).__name__}: return a compiled Keras model, or write"
                " fit(self, hp, model, …) next to build"
            )
        # A fit that gives the model's fit a number of its own would give it twice.
        if "epochs" in inspect.signature(fit).parameters:
            kwargs["epochs"] = self._run.total_epochs
        return fit(hp, model, *self._data.args, **kwargs)

    @contextmanager
    def _supervised(self, model: Any, reports: Reports) -> Iterator[None]:
        """Let every call of the model's fit be one of the run, also by code of the builder."""

        def fit(*args: Any, **kwargs: Any) -> Any:
            if self._run.ended_early:
                raise RunEndedError
            options = {**dict(zip(_PLACES, args, strict=False)), **kwargs}
            self._check_data(options)
            options.setdefault("epochs", self._run.total_epochs)
            self._planned = (self._planned or 0) + options["epochs"] - options.get("initial_epoch", 0)
            check_room(self._run, self._planned)
            # The run has its own callback.
            options["callbacks"] = [one for one in options.get("callbacks") or () if one is not reports]
            del model.__dict__["fit"]
            try:
                return self._run.fit(model, **options)
            finally:
                model.__dict__["fit"] = fit

        # Not by `setattr`, which Keras tracks.
        model.__dict__["fit"] = fit
        try:
            yield
        finally:
            model.__dict__.pop("fit", None)

    def _check_data(self, options: Mapping[str, Any]) -> None:
        """Raise ObjectiveBrokenError if the model gets other data than the test data would be."""
        if not self._data.has_test or self._evaluate is not None:
            return
        given: Any = self._data.kwargs.get("validation_data")
        found: Any = options.get("validation_data")
        if given is None:
            found, given = options.get("x"), self._data.args[0]
        if not _is_same(found, given):
            raise ObjectiveBrokenError(_EVALUATE.format("prepares the data for the model"))

    def _settle(self, result: Any, reports: Reports) -> None:
        """Report the result of `fit` where it has reported no epoch; else judge the trial by it."""
        history = getattr(result, "history", None)
        reported = reports.count > 0 or self._planned is not None
        if not reported and isinstance(history, Mapping) and history:
            for epoch in zip(*history.values(), strict=True):
                reports.report(dict(zip(history, epoch, strict=True)))
            return
        if isinstance(history, Mapping) or (result is None and reported):
            return
        value = self._value(result)
        if self._run.final:
            self._run.record(**{self._metric: value})
        if reported:
            self._run.judge(value)
        else:
            reports.report({**(result if isinstance(result, Mapping) else {}), self._metric: value})

    def _value(self, result: Any) -> float:
        """Return the metric in a result of `fit`, as KerasTuner reads it."""
        history = getattr(result, "history", result)
        if isinstance(history, Mapping):
            if self._metric not in history:
                names = ", ".join(map(str, history))
                raise MetricMissingError(f"fit() returned {names}, but not {self._metric!r}: {_CHOOSE}")
            found = history[self._metric]
            return number(f"the metric {self._metric!r}", found if history is result else found[-1])
        if isinstance(result, list | tuple) and result:
            return statistics.fmean(self._value(item) for item in result)
        if result is None:
            raise MetricMissingError(
                f"fit() reported no epoch and returned None: return model.fit(…), or the value of {self._metric}"
            )
        return number("the result of fit()", result)

    def _finish(self, hp: Any, model: Any) -> None:
        test = self._data.test
        if test and self._evaluate is None:
            # Saves the model too.
            self._run.evaluate(model, **dict(zip(("x", "y", "sample_weight"), test, strict=False)))
        elif test and self._evaluate is not None:
            measured = self._evaluate(hp, model, *test)
            if not isinstance(measured, Mapping):
                measured = {self._metric.removeprefix("val_"): measured}
            self._run.record(**{f"test_{name}": value for name, value in measured.items()})
        # A data set has the length of its batches.
        if len(test) > 1 and hasattr(test[1], "__len__"):
            self._run.record(n_test=len(test[1]))
        written = bool(test) and self._evaluate is None
        if self._run.output is not None and _is_keras(model) and not written:
            self._run.record(parameters=int(model.count_params()))
            saved_model.save(model, self._run)


_PLACES = ("x", "y", "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data")
"""Arguments of Keras' fit by their places."""
_CHOOSE = (
    'write objective = "…" with the name of a reported metric into the file, or compile the model with it'
)
_EVALUATE = (
    "fit() {}, so the test data cannot be evaluated as they are: add a method evaluate(self, hp, model, x, y) that"
    " returns a dict of metrics, or leave the test data out"
)


class Reports:
    """A callback for loops of a hypermodel's own, which closes an epoch of the run at each end of an epoch."""

    model: Any = None

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._epochs = run.epochs()
        self._is_open = False
        self.count = 0
        """Number of epochs reported."""

    def set_model(self, model: Any) -> None:
        """Note the model that trains."""
        self.model = model

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' interface
        """Report the epoch; end the training where the run has no further one."""
        if not logs:
            return
        self.report(logs)
        if self._run.ended_early and self.model is not None:
            self.model.stop_training = True

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Report an epoch, and open the next one.

        Raises:
            ObjectiveBrokenError: the run has no epoch left.
            RunEndedError: the process has to end.
        """
        if not self._run.ended_early:
            check_room(self._run, self.count + 1)
            self._open()
        if self._run.ended_early:
            raise RunEndedError
        self._is_open = False
        self._run.report(**metrics)
        self.count += 1
        self._open()

    def _open(self) -> None:
        self._is_open = self._is_open or next(self._epochs, None) is not None


def check_room(run: Run, epochs: int) -> None:
    """Raise ObjectiveBrokenError if as many epochs are more than the run has."""
    if epochs > run.total_epochs:
        raise ObjectiveBrokenError(
            f"fit() trains for {epochs} epochs, and a trial has at most {run.total_epochs}: give the largest number"
            f" with --epochs, or write epochs = {epochs} into the file"
        )


def reporter(run: Run) -> Reports:
    """Return a callback of Keras that reports to the run, and a plain object where Keras is not imported."""
    callback = getattr(getattr(sys.modules.get("keras"), "callbacks", None), "Callback", None)
    if callback is None:
        return Reports(run)
    made: Reports = type("Reports", (Reports, callback), {})(run)
    return made


def _is_keras(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _is_same(found: Any, given: Any) -> bool:
    """Return whether two arguments are one object, or sequences of the same objects."""
    if found is given:
        return True
    if not isinstance(found, list | tuple) or not isinstance(given, list | tuple):
        return False
    return len(found) == len(given) and all(one is other for one, other in zip(found, given, strict=True))
