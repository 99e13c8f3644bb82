"""A KerasTuner model builder runs unchanged as an objective of this service; most models here need no Keras."""

# ruff: noqa: ARG002, ARG005 - signatures are those of KerasTuner

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives import loader
from objectives.adapters.keras_tuner_objective import fit_data, is_builder, wrap
from objectives.adapters.optuna_objective import OptunaObjective
from objectives.base import DataOptions
from objectives.errors import DivergedError, Infeasible, MetricMissingError
from objectives.local_run import LocalRun

X, Y = np.zeros((4, 2)), np.zeros(4)
PAIRS = ((X, Y), (X, Y))


class Loop:
    """A HyperModel with a loop of its own, which calls the callbacks as KerasTuner's guide does."""

    losses: tuple[float, ...] = (3.0, 2.0, 1.0)
    returned: Any = None

    def build(self, hp: Any) -> Any:
        return SimpleNamespace(units=hp.Int("units", 1, 9))

    def fit(self, hp: Any, model: Any, x: Any, y: Any, callbacks: list[Any], **kwargs: Any) -> Any:
        model.rate = hp.Float("rate", 0, 1)
        for callback in callbacks:
            callback.set_model(model)
        for epoch, loss in enumerate(self.losses):
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"val_loss": loss})
        return self.returned


def module(**names: Any) -> ModuleType:
    made = ModuleType("mine")
    vars(made).update({"data": lambda: PAIRS, **names})
    return made


def train(found: Any, run: LocalRun | None = None, params: Any = None, **names: Any) -> LocalRun:
    run = run or LocalRun(total_epochs=3)
    objective = wrap(found, "mine", module(**names))()
    objective.prepare(DataOptions(), run.final)
    objective.train(params or {}, run)
    return run


def loop(**attributes: Any) -> Loop:
    made = Loop()
    vars(made).update(attributes)
    return made


def history(**values: list[float]) -> Any:
    return SimpleNamespace(history=values)


def test_loop_of_a_hypermodel_reports_its_epochs() -> None:
    run = train(Loop)
    assert [entry["val_loss"] for entry in run.history] == [3, 2, 1]
    assert set(run._suggested) == {"units", "rate"}
    assert run.value is None


def test_final_run_uses_the_given_parameters() -> None:
    run = train(Loop(), LocalRun(total_epochs=3, final=True), {"units": 5, "rate": 0.5})
    assert (run._suggested, len(run.history)) == ({}, 3)


def test_stopped_run_leaves_the_loop() -> None:
    run = train(Loop, LocalRun(total_epochs=3, stop_after=1))
    assert (len(run.history), run.ended_early) == (1, True)


@pytest.mark.parametrize(
    ("losses", "returned", "epochs", "value"),
    [
        ((), 0.5, [0.5], None),
        ((), np.float32(0.5), [0.5], None),
        ((), {"val_loss": 0.5, "accuracy": 1}, [0.5], None),
        ((), [0.25, {"val_loss": 0.75}], [0.5], None),
        ((), history(val_loss=[0.5, 0.25], loss=[1, 2]), [0.5, 0.25], None),
        ((3.0, 2.0), 0.5, [3, 2], 0.5),
        ((3.0, 2.0), [history(val_loss=[3, 2])] * 2, [3, 2], 2),
        ((3.0, 2.0), history(val_loss=[3, 2]), [3, 2], None),
        ((3.0, 2.0), None, [3, 2], None),
    ],
)
def test_result_of_fit_decides_as_in_keras_tuner(
    losses: tuple[float, ...], returned: Any, epochs: list[float], value: float | None
) -> None:
    run = train(loop(losses=losses, returned=returned))
    assert ([entry["val_loss"] for entry in run.history], run.value) == (epochs, value)


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({"losses": ()}, MetricMissingError, "reported no epoch and returned None"),
        (
            {"losses": (), "returned": {"loss": 1}},
            MetricMissingError,
            "fit.. returned loss, but not 'val_loss'",
        ),
        ({"losses": (), "returned": "good"}, ValueError, "the result of fit.. is the text 'good'"),
        (
            {"losses": (1.0,) * 4},
            ObjectiveBrokenError,
            "trains for 4 epochs, and a trial has at most 3: .* --epochs",
        ),
        ({"losses": (math.nan,)}, DivergedError, "val_loss is nan"),
        ({"build": lambda _: None}, ObjectiveBrokenError, r"build\(\) returned None"),
    ],
)
def test_broken_fit_is_named(attributes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(loop(**attributes))


def test_missing_metric_names_those_that_were_reported() -> None:
    with pytest.raises(
        MetricMissingError,
        match=r"was given val_loss, but not 'val_auc', the objective's metric: .*objective = ",
    ):
        train(Loop, objective="val_auc")


def test_failed_trial_of_keras_tuner_is_infeasible() -> None:
    class FailedTrialError(Exception):
        pass

    def build(_: Any) -> Any:
        raise FailedTrialError("too large")

    with pytest.raises(Infeasible, match="too large"):
        train(loop(build=build))


def test_fit_gets_the_epochs_where_it_names_them() -> None:
    class Named(Loop):
        def fit(
            self, hp: Any, model: Any, x: Any, y: Any, epochs: int, callbacks: Any, **kwargs: Any
        ) -> float:
            assert (x is X, y is Y, epochs, kwargs["validation_data"][0] is X) == (True, True, 3, True)
            return float(epochs)

    assert train(Named).history == [{"val_loss": 3}]


def build_model(hp: Any) -> Any:
    return hp


def typed(builder: HyperParameters) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return builder


class OptunaObject:
    def build(self, trial: Any) -> Any: ...
    def __call__(self, trial: Any) -> float: ...


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (build_model, True),
        (functools.partial(build_model), True),
        (typed, True),
        (Loop, True),
        (Loop(), True),
        (type("Mine", (type("HyperModel", (), {}),), {}), True),
        (lambda trial: trial, False),
        (OptunaObject, False),
        (OptunaObject(), False),
        (lambda: 0, False),
        (3, False),
        (print, False),
    ],
)
def test_builder_is_no_optuna_objective(found: Any, expected: bool) -> None:
    assert is_builder(found) is expected


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (None, ("val_loss", "minimize")),
        (lambda trial: 0, ("val_loss", "minimize")),
        ("val_accuracy", ("val_accuracy", "maximize")),
        ("val_out_auc_1", ("val_out_auc_1", "maximize")),
        ("val_sparse_categorical_accuracy", ("val_sparse_categorical_accuracy", "maximize")),
        ("val_mean_absolute_error", ("val_mean_absolute_error", "minimize")),
        ("val_binary_crossentropy", ("val_binary_crossentropy", "minimize")),
        (SimpleNamespace(name="speed", direction="max"), ("speed", "maximize")),
        (SimpleNamespace(name="val_accuracy", direction="min"), ("val_accuracy", "minimize")),
    ],
)
def test_module_names_the_metric(objective: Any, expected: tuple[str, str]) -> None:
    described = wrap(Loop, "mine", module(objective=objective)).describe("mine")
    assert (described.metric, described.direction) == expected
    assert (described.epochs, described.open_space) == (10, True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"objective": "my_score"}, "metric 'my_score' of unknown direction .* keras_tuner.Objective"),
        ({"objective": SimpleNamespace(name="x", direction="up")}, "unknown direction"),
        ({"objective": ["val_loss", "loss"]}, "several objectives"),
        ({"objective": 3}, "objective = 3 in its file"),
        ({"epochs": 0}, "epochs = 0 in its file"),
        ({"epochs": "many"}, "epochs = 'many'"),
        ({"data": None}, r"needs its data: write a function data\(\) .* \(x, y\), \(x_val, y_val\)"),
        ({"data": 3}, "needs its data"),
    ],
)
def test_wrong_declaration_is_refused(names: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrap(build_model, "mine", module(**names))


def test_class_with_arguments_is_refused_and_its_object_taken() -> None:
    class Wide(Loop):
        def __init__(self, width: int) -> None:
            self.width = width

    with pytest.raises(ValueError, match="needs arguments"):
        wrap(Wide, "Wide", module())
    assert len(train(Wide(3)).history) == 3


def test_fit_with_data_of_its_own_needs_no_function() -> None:
    class Own(Loop):
        def fit(self, hp: Any, model: Any, callbacks: Any) -> float:  # type: ignore[override]
            return 1.0

    assert train(Own, data=None).history == [{"val_loss": 1}]


@pytest.mark.parametrize(
    ("loaded", "args", "kwargs", "test"),
    [
        (PAIRS, 2, {"validation_data"}, 0),
        ([[X, Y], [X, Y], (X, Y)], 2, {"validation_data"}, 2),
        (("train", "valid", "test"), None, None, None),
        ((object(), object(), object()), 1, {"validation_data"}, 1),
        (({"a": X}, Y), None, None, None),
        ((X, Y), None, None, None),
        (PAIRS * 2, None, None, None),
        (X, None, None, None),
        (None, None, None, None),
        ({"x": X, "y": Y, "batch_size": 2, "test_data": (X, Y)}, 2, {"batch_size"}, 2),
        ({"x": X, "validation_split": 0.1}, 1, {"validation_split"}, 0),
        ({"y": X}, None, None, None),
        ({"x": X, "epochs": 3}, None, None, None),
    ],
)
def test_data_are_arguments_of_fit(loaded: Any, args: Any, kwargs: Any, test: Any) -> None:
    if args is None:
        with pytest.raises(ObjectiveBrokenError, match=r"data\(\) must"):
            fit_data(loaded, final=True)
        return
    found = fit_data(loaded, final=True)
    assert (len(found.args), set(found.kwargs), len(found.test)) == (args, kwargs, test)
    search = fit_data(loaded, final=False)
    assert (search.has_test, search.test) == (test > 0, ())


def test_test_data_are_evaluated_once_by_the_hypermodel() -> None:
    class Evaluated(Loop):
        def evaluate(self, hp: Any, model: Any, x: Any, y: Any) -> dict[str, float]:
            return {"accuracy": hp.get("rate")}

    tested = (*PAIRS, (X, Y))
    run = LocalRun(total_epochs=3, final=True)
    train(Evaluated, run, {"units": 5, "rate": 0.5}, data=lambda: tested)
    assert run.results == {"test_accuracy": 0.5, "n_test": 4}
    assert train(Evaluated, data=lambda: tested).results == {}
    with pytest.raises(ObjectiveBrokenError, match=r"add a method evaluate\(self, hp, model, x, y\)"):
        train(Loop, data=lambda: tested)


def load(tmp_path: Path, source: str, name: str) -> Any:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(source))
    return loader.load(f"{file}:{name}")


def test_file_may_hold_a_builder_and_an_optuna_objective(tmp_path: Path) -> None:
    source = """
        epochs = 7
        def data(): return (0, 0), (0, 0)
        def build_model(hp): "Build it."
        def objective(trial): return 1.0
    """
    described = load(tmp_path, source, "build_model").describe("x")
    assert (described.metric, described.epochs, described.summary) == ("val_loss", 7, "Build it.")
    assert issubclass(load(tmp_path, source, "objective"), OptunaObjective)


def test_builder_without_data_is_refused_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(
        ObjectiveBrokenError, match=r"as a KerasTuner model builder it needs its data: write .* data\(\)"
    ):
        load(tmp_path, "def build_model(hp): pass", "build_model")
