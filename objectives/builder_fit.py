"""The training of a KerasTuner model builder: its epochs go to the run, and its last value decides."""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo.errors import ObjectiveBrokenError
from objectives.base import MetricMissingError, Run, RunEndedError
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
        self._took_data = False

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
        reports = reporter(self._run, self._metric)
        result = self._fit(hp, model, reports)
        if reports.ended:
            return
        self._settle(result, reports)
        if self._data.has_test and self._evaluate is None and not self._took_data:
            raise ObjectiveBrokenError(_EVALUATE.format("trains without the model's own fit"))
        if self._run.final:
            self._finish(hp, model)

    def _fit(self, hp: Any, model: Any, reports: Reports) -> Any:
        callbacks = [*(self._data.kwargs.get("callbacks") or ()), reports]
        kwargs = {**self._data.kwargs, "callbacks": callbacks}
        if not _is_keras(model):
            return self._own_fit(hp, model, kwargs)
        # Not by `setattr`, which Keras tracks: every call of the model's fit has to report, whoever makes it.
        model.__dict__["fit"] = self._supervised(model.fit, reports)
        try:
            if getattr(self._hypermodel, "fit", None) is None:
                return model.fit(*self._data.args, **kwargs)
            return self._own_fit(hp, model, kwargs)
        finally:
            model.__dict__.pop("fit", None)

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

    def _supervised(self, fit: Callable[..., Any], reports: Reports) -> Callable[..., Any]:
        """Return the model's fit with the run's epochs and reports."""

        def supervised(*args: Any, **kwargs: Any) -> Any:
            if reports.ended:
                raise RunEndedError
            self._check_data(args, kwargs)
            if len(args) <= _EPOCHS_PLACE:
                kwargs.setdefault("epochs", self._run.total_epochs)
            epochs = args[_EPOCHS_PLACE] if len(args) > _EPOCHS_PLACE else kwargs["epochs"]
            reports.check_room(epochs - kwargs.get("initial_epoch", 0))
            # A progress bar would fill the log.
            kwargs.setdefault("verbose", 2)
            callbacks = list(kwargs.get("callbacks") or ())
            if not any(callback is reports for callback in callbacks):
                callbacks.append(reports)
            return fit(*args, **{**kwargs, "callbacks": callbacks})

        return supervised

    def _check_data(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise ObjectiveBrokenError if the model gets other data than the test data would be."""
        self._took_data = True
        if not self._data.has_test or self._evaluate is not None:
            return
        given: Any = self._data.kwargs.get("validation_data")
        found: Any = kwargs.get("validation_data")
        if given is None:
            found, given = args[0] if args else kwargs.get("x"), self._data.args[0]
        if not _is_same(found, given):
            raise ObjectiveBrokenError(_EVALUATE.format("prepares the data for the model"))

    def _settle(self, result: Any, reports: Reports) -> None:
        """Report what `fit` returned where it has reported no epoch; else judge the trial by it."""
        history = getattr(result, "history", None)
        if reports.count == 0 and isinstance(history, Mapping) and history:
            for epoch in zip(*history.values(), strict=True):
                reports.report(dict(zip(history, epoch, strict=True)))
            return
        if isinstance(history, Mapping) or (result is None and reports.count):
            return
        value = self._value(result)
        if self._run.final:
            self._run.record(**{self._metric: value})
        if reports.count:
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
        if test:
            if self._evaluate is not None:
                measured = self._evaluate(hp, model, *test)
            else:
                measured = model.evaluate(*test, return_dict=True, verbose=0)
            if not isinstance(measured, Mapping):
                measured = {self._metric.removeprefix("val_"): measured}
            self._run.record(**{f"test_{name}": value for name, value in measured.items()})
            if hasattr(test[-1], "__len__"):
                self._run.record(n_test=len(test[-1]))
        if self._run.output is not None and _is_keras(model):
            self._run.record(parameters=int(model.count_params()))
            model.save(self._run.output / "model.keras")


_EPOCHS_PLACE = 3
"""Place of `epochs` among the arguments of Keras' fit."""
_CHOOSE = (
    'write objective = "…" with the name of a reported metric into the file, or compile the model with it'
)
_EVALUATE = (
    "fit() {}, so the test data cannot be evaluated as they are: add a method evaluate(self, hp, model, x, y) that"
    " returns a dict of metrics, or leave the test data out"
)


class Reports:
    """A callback that closes an epoch of the run after each epoch of the model."""

    model: Any = None
    params: Any = None

    def __init__(self, run: Run, metric: str) -> None:
        super().__init__()
        self._run = run
        self._metric = metric
        self._epochs = run.epochs()
        self.count = 0
        """Number of epochs reported in this process."""
        self.ended = False
        """Whether the process has to end."""
        self._is_open = True
        self._open()
        if self.ended:
            raise RunEndedError

    def _open(self) -> None:
        """Begin the next epoch, if the run has one."""
        self._is_open = next(self._epochs, None) is not None
        self.ended = not self._is_open and self._run.total_epochs > self.count

    def set_model(self, model: Any) -> None:
        """Note the model that trains."""
        self.model = model

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' interface
        """Report progress in the epoch."""
        if self._is_open:
            self._run.tick(batch + 1, (self.params or {}).get("steps") or batch + 2)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' interface
        """Report the epoch; end the training where the run has no further one."""
        if not logs:
            return
        self.report(logs)
        if self.ended and self.model is not None:
            self.model.stop_training = True

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Report an epoch.

        Raises:
            ObjectiveBrokenError: the run has no epoch left.
            MetricMissingError: the metric is not among the reported ones.
            RunEndedError: the process has to end.
        """
        if self.ended:
            raise RunEndedError
        self.check_room(1)
        if self._metric not in metrics and not self._run.final:
            names = ", ".join(map(str, metrics))
            raise MetricMissingError(f"an epoch reported {names}, but not {self._metric!r}: {_CHOOSE}")
        self._run.report(**metrics)
        self.count += 1
        self._open()

    def check_room(self, epochs: int) -> None:
        """Raise ObjectiveBrokenError if as many further epochs are more than the run has."""
        if self.count + epochs > self._run.total_epochs:
            raise ObjectiveBrokenError(
                f"fit() trains for {self.count + epochs} epochs, and a trial has at most {self._run.total_epochs}: give"
                f" the largest number with --epochs, or write epochs = {self.count + epochs} into the file"
            )


def reporter(run: Run, metric: str) -> Reports:
    """Return a callback of Keras that reports to the run, and a plain object where Keras is not imported.

    Raises:
        RunEndedError: the process has to end.
    """
    callback = getattr(getattr(sys.modules.get("keras"), "callbacks", None), "Callback", None)
    if callback is None:
        return Reports(run, metric)
    made: Reports = type("Reports", (Reports, callback), {})(run, metric)
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
