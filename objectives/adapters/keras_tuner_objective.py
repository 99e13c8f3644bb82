"""A KerasTuner model builder, a function of `hp` or a HyperModel, as an `Objective`: its code runs unchanged.

Its space is open, as that of an Optuna objective. The arguments of `tuner.search`, which stand outside of the builder,
come from its module: the data from a function `data`, the metric from `objective`, the number of epochs from `epochs`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, cast

from optuna.distributions import BaseDistribution

from hpo.errors import ObjectiveBrokenError
from objectives.adapters.builder_fit import BuilderFit, FitData
from objectives.adapters.hyperparameters import hyperparameters
from objectives.adapters.optuna_objective import instance, seed
from objectives.base import DataOptions, Direction, Objective, Params, Run
from objectives.errors import Infeasible, RunEndedError

EPOCHS = 10
"""Epochs of a trial where neither the module nor `--epochs` gives a number."""
METRIC = "val_loss"
"""Metric where the module gives none, to minimize."""
_PARAMETER_NAMES = ("hp", "hps", "hparams", "hyperparameters")
_MAXIMIZED = re.compile(r"(acc|accuracy|auc|precision|recall|f1_score|fbeta_score|r2_score|iou|io_u)(_\d+)?")
_MINIMIZED = re.compile(
    r"(loss|error|crossentropy|divergence|hinge|poisson|ce|mse|mae|mape|msle|rmse|log_cosh)(_\d+)?"
)


class KerasTunerObjective(Objective):
    """Base of the classes that `wrap` returns."""

    open_space = True
    space: ClassVar[dict[str, BaseDistribution]] = {}
    hypermodel: ClassVar[Any]
    """Object with `build(hp)`, and `fit(hp, model, …)` unless the model's own `fit` is enough."""
    data: ClassVar[Callable[[], Any] | None] = None

    _data: FitData | None = None

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: ARG002 - the module loads its data
        """Call the module's function `data`, and keep its test data only for a final run."""
        function = type(self).data
        self._data = FitData() if function is None else fit_data(function(), final)

    def train(self, params: Params, run: Run) -> None:  # noqa: ARG002 - the run has them
        """Build the model, fit it, and in a final run evaluate it on the test data once."""
        if self._data is None:
            self.prepare(DataOptions(), run.final)
        assert self._data is not None
        seed(run.seed)
        hp = hyperparameters(run.suggest)
        try:
            BuilderFit(type(self).hypermodel, self._data, self.metric, run).run(hp)
        except RunEndedError:
            return
        except Exception as exc:
            if any(cls.__name__ == "FailedTrialError" for cls in type(exc).__mro__):
                raise Infeasible(str(exc)) from exc
            raise


def is_builder(found: object) -> bool:
    """Return whether an object is a model builder: a HyperModel, its class, or a function of `hp`."""
    mro = (found if isinstance(found, type) else type(found)).__mro__
    # Layers and models have `build` too, and can be called.
    if callable(getattr(found, "build", None)) and not any("__call__" in vars(cls) for cls in mro):
        return True
    if isinstance(found, type) or not callable(found):
        return any(cls.__name__ == "HyperModel" for cls in mro)
    try:
        first = next(iter(inspect.signature(found).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    return first is not None and (
        first.name in _PARAMETER_NAMES or "HyperParameters" in str(first.annotation)
    )


def wrap(found: Any, name: str, module: ModuleType) -> type[KerasTunerObjective]:
    """Return the objective of a model builder; its module gives data, metric and epochs.

    Raises:
        ValueError: one of them is missing or invalid; the message ends a sentence that begins with its name.
    """
    if isinstance(found, type):
        found = instance(found)
    hypermodel = found if callable(getattr(found, "build", None)) else SimpleNamespace(build=found)
    metric, direction = _goal(getattr(module, "objective", None))
    epochs = getattr(module, "epochs", EPOCHS)
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"has epochs = {epochs!r} in its file: write a whole number of at least 1")
    data = getattr(module, "data", None)
    if not callable(data) and (data is not None or _needs_data(hypermodel)):
        raise ValueError(f"needs its data: write a function data() into its file that returns {_DATA}")
    attributes = {
        "hypermodel": hypermodel,
        "data": None if data is None else staticmethod(data),
        "metric": metric,
        "direction": direction,
        "epochs": epochs,
        "__doc__": inspect.getdoc(found),
    }
    return type(name, (KerasTunerObjective,), attributes)


_DATA = (
    "(x, y), (x_val, y_val), and optionally (x_test, y_test), or a dict of the arguments of fit, with test_data"
    " optionally"
)


def _needs_data(hypermodel: Any) -> bool:
    """Return whether `fit` takes training data, as the model's own does."""
    fit = getattr(hypermodel, "fit", None)
    if fit is None:
        return True
    try:
        inspect.signature(fit).bind("hp", "model", "x", callbacks=())
    except TypeError:
        return False
    return True


def _goal(given: Any) -> tuple[str, Direction]:
    """Return metric and direction by the name `objective` of a module."""
    # A function of this name is an Optuna objective in the same file.
    if given is None or inspect.isroutine(given):
        return METRIC, "minimize"
    if isinstance(given, list | tuple) or hasattr(given, "objectives"):
        raise ValueError("has several objectives in its file, and a study here has one: name one metric")
    metric, declared = getattr(given, "name", given), getattr(given, "direction", None)
    if not isinstance(metric, str):
        raise ValueError(f"has objective = {given!r} in its file: {_OBJECTIVE}")
    direction = (
        _direction(metric) if declared is None else {"min": "minimize", "max": "maximize"}.get(declared)
    )
    if direction is None:
        raise ValueError(f"has the metric {metric!r} of unknown direction in its file: {_OBJECTIVE}")
    return metric, cast("Direction", direction)


_OBJECTIVE = (
    'write objective = "val_accuracy" or the name of another reported metric, or'
    ' objective = keras_tuner.Objective("name", direction="max")'
)


def _direction(metric: str) -> str | None:
    """Return the direction of one of Keras' metrics or losses by its name."""
    name = metric.lower()
    for pattern, direction in ((_MAXIMIZED, "maximize"), (_MINIMIZED, "minimize")):
        if re.fullmatch(rf"(.*_)?{pattern.pattern}", name):
            return direction
    return None


def fit_data(loaded: Any, final: bool) -> FitData:
    """Return the arguments of `fit` in the result of a module's function `data`.

    Raises:
        ObjectiveBrokenError: the result has another form.
    """
    if isinstance(loaded, Mapping):
        return _from_arguments(dict(loaded), final)
    parts = list(loaded) if isinstance(loaded, list | tuple) else []
    if len(parts) not in (2, 3) or not all(_is_part(part) for part in parts):
        raise ObjectiveBrokenError(f"data() must return {_DATA}: it returned {_shown(loaded)}")
    train, valid, *test = parts
    validation = tuple(valid) if isinstance(valid, list | tuple) else valid
    return FitData(
        args=_together(train),
        kwargs={"validation_data": validation},
        has_test=bool(test),
        test=_together(test[0]) if test and final else (),
    )


def _from_arguments(arguments: dict[str, Any], final: bool) -> FitData:
    for name in ("epochs", "initial_epoch"):
        if name in arguments:
            raise ObjectiveBrokenError(
                f"data() must not return {name}: write epochs = … into the file, or give --epochs"
            )
    test = arguments.pop("test_data", None)
    if "x" not in arguments:
        raise ObjectiveBrokenError("data() must return the training data under the key x")
    args = [arguments.pop("x")]
    if "y" in arguments:
        args.append(arguments.pop("y"))
    return FitData(
        args=tuple(args),
        kwargs=arguments,
        has_test=test is not None,
        test=_together(test) if test is not None and final else (),
    )


def _is_part(value: Any) -> bool:
    """Return whether a value is inputs with labels, or a data set."""
    if isinstance(value, list | tuple):
        return len(value) in (2, 3)
    return value is not None and not hasattr(value, "shape") and not isinstance(value, Mapping | str)


def _together(part: Any) -> tuple[Any, ...]:
    return tuple(part) if isinstance(part, list | tuple) else (part,)


def _shown(loaded: Any) -> str:
    if isinstance(loaded, Sequence) and not isinstance(loaded, str):
        return f"a {type(loaded).__name__} of {', '.join(type(part).__name__ for part in loaded[:4]) or 'nothing'}"
    return f"an object of type {type(loaded).__name__}"
