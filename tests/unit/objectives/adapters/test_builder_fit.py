"""The model of a KerasTuner builder is trained by its own fit, within the epochs of the run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives.adapters.keras_tuner_objective import wrap
from objectives.base import DataOptions
from objectives.local_run import LocalRun

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1)


def build_model(hp: Any) -> keras.Model:
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(hp.Int("units", 2, 4)), keras.layers.Dense(1)]
    )
    rate = hp.Float("lr", 1e-3, 1e-2, sampling="log")
    # A graph takes longer to trace than these epochs of one batch to train.
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse", run_eagerly=True)
    return model


class Mine:
    """A HyperModel whose fit has arguments of its own."""

    options: dict[str, Any] = {}
    shift = 0.0

    def build(self, hp: Any) -> keras.Model:
        return build_model(hp)

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        if self.shift:
            kwargs["validation_data"] = (X + self.shift, Y)
        return model.fit(x, y, **{**kwargs, **self.options})


def train(found: Any, run: LocalRun, *, test: bool = False, **options: Any) -> LocalRun:
    module = ModuleType("mine")
    pairs = ((X, Y), (X, Y), (X, 2 * Y)) if test else ((X, Y), (X, Y))
    vars(module).update(data=lambda: pairs)
    objective = wrap(found, "mine", module)()
    objective.prepare(DataOptions(), run.final)
    objective.train({"units": 3, "lr": 5e-3} if run.final else options, run)
    return run


@pytest.mark.parametrize(("stop_after", "epochs"), [(None, 3), (2, 2)])
def test_fit_reports_each_epoch_and_ends_with_the_run(stop_after: int | None, epochs: int) -> None:
    run = train(build_model, LocalRun(total_epochs=3, stop_after=stop_after))
    assert [set(entry) for entry in run.history] == [{"loss", "val_loss"}] * epochs
    assert run.ended_early is (stop_after is not None)


def test_interrupted_run_resumes_to_the_same_result() -> None:
    whole = train(build_model, LocalRun(total_epochs=3))
    first = train(build_model, LocalRun(total_epochs=3, stop_after=2, figures=("parameters",)))
    assert first.measured["parameters"] in (11, 16, 21)
    resumed = train(build_model, LocalRun(total_epochs=3, resume=first.checkpoint))
    assert first.history + resumed.history == whole.history


def test_final_run_is_evaluated_and_saved(tmp_path: Path) -> None:
    run = train(build_model, LocalRun(total_epochs=2, final=True, output=tmp_path), test=True)
    model = keras.models.load_model(tmp_path / "model.keras")
    assert run.results["test_loss"] == pytest.approx(model.evaluate(X, 2 * Y, verbose=0))
    assert run.results["n_test"] == 16


def test_own_number_of_epochs_and_callbacks_end_a_trial_as_complete() -> None:
    hypermodel = Mine()
    hypermodel.options = {
        "epochs": 2,
        "callbacks": [keras.callbacks.EarlyStopping("loss", min_delta=9, patience=1)],
    }
    assert len(train(hypermodel, LocalRun(total_epochs=3)).history) == 2
    hypermodel.options["epochs"] = 4
    with pytest.raises(
        ObjectiveBrokenError, match=r"trains for 4 epochs, and a trial has at most 3: .*--epochs"
    ):
        train(hypermodel, LocalRun(total_epochs=3))


def test_test_data_must_be_prepared_as_the_others_are() -> None:
    hypermodel = Mine()
    train(hypermodel, LocalRun(total_epochs=1), test=True)
    hypermodel.shift = 1.0
    train(hypermodel, LocalRun(total_epochs=1))
    with pytest.raises(ObjectiveBrokenError, match=r"prepares the data for the model.* evaluate\(self, hp"):
        train(hypermodel, LocalRun(total_epochs=1), test=True)
