"""Training for each task: exact when resumed, with its metrics and the records of a final run."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives.base import DataOptions
from objectives.data import arrays
from objectives.data.splits import split
from tests.unit.objectives.training.tabular import DEVICE, PARAMS, TARGETS, Tabular, X, made, trained


def exact(history):
    return [{name: value for name, value in m.items() if name != "images_per_second"} for m in history]


REPORTED = {
    "classes": {"val_accuracy", "accuracy"},
    "labels": {"val_accuracy", "val_macro_f1", "val_auc", "accuracy"},
    "binary": {"val_accuracy", "val_auc", "accuracy"},
    "regression": {"val_mae", "val_rmse", "val_r2"},
}


@pytest.mark.parametrize("task", TARGETS)
def test_interrupted_run_of_each_task_equals_uninterrupted_run(task):
    objective = made(task, sampling="balanced" if task in ("classes", "binary") else "shuffled")
    whole = trained(objective)
    common = {"loss", "val_loss", "learning_rate", "images_per_second"}
    assert [set(metrics) for metrics in whole.history] == [common | REPORTED[task]] * 3
    first = trained(objective, kept=True, stop_after=1)
    rest = trained(objective, kept=True, resume=first.checkpoint)
    assert exact(first.history + rest.history) == exact(whole.history)
    for name, value in whole.checkpoint.state.items():
        np.testing.assert_array_equal(rest.checkpoint.state[name], value, err_msg=name)


RECORDS = {
    "classes": {"confusion", "calibration", "curves", "wrong", "test_calibration_error"},
    "labels": {"per_label", "curves"},
    "binary": {"confusion", "calibration", "curves", "wrong", "test_calibration_error"},
    "regression": {"residuals"},
}
TESTED = {
    "classes": {"accuracy", "balanced_accuracy", "macro_f1", "auc"},
    "labels": {"accuracy", "macro_f1", "auc", "average_precision"},
    "binary": {"accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision"},
    "regression": {"mae", "rmse", "r2"},
}
BOUND = {
    "classes": ("accuracy", 0.7),
    "labels": ("auc", 0.9),
    "binary": ("auc", 0.9),
    "regression": ("r2", 0.9),
}


@pytest.mark.parametrize("task", TARGETS)
def test_final_run_of_each_task_records_and_exports_usable_outputs(task, tmp_path):
    objective = made(task)
    run = trained(objective, total=24, kept=True, final=True, output=tmp_path)
    found, data = run.results, objective._data
    tested = {f"test_{name}" for name in TESTED[task]}
    assert (
        RECORDS[task] | tested | {"test_loss", "n_test", "n_train", "parameters", "precision"} <= found.keys()
    )
    # A test with few mistakes has no interval of some scores.
    known = tested if task == "regression" else {"test_accuracy"}
    assert known | {"test_loss"} <= found["test_intervals"].keys() <= tested | {"test_loss"}
    for name, (low, high) in found["test_intervals"].items():
        assert low <= found[name] <= high
    name, least = BOUND[task]
    assert found[f"test_{name}"] > least
    assert (found["task"], found["input"]) == (task, {"shape": [6], "dtype": "float32"})
    model = keras.saving.load_model(tmp_path / "model.keras")
    outputs = keras.ops.convert_to_numpy(model(data.x_test))
    assert outputs.shape == (40, data.output_size)
    if task == "regression":
        # Of the unit of the targets, although the model learns standardized ones.
        assert np.abs(outputs - data.y_test).mean() == pytest.approx(found["test_mae"], rel=1e-4)
        assert found["residuals"][data.classes[1]]["true"] == pytest.approx(data.y_test[:, 1].tolist())
        assert run.history[0]["loss"] < 10
    else:
        predicted = outputs.argmax(axis=1) if task == "classes" else (outputs > 0.5).astype(int)
        right = predicted.reshape(data.y_test.shape) == data.y_test
        assert right.mean() == pytest.approx(found["test_accuracy"])


@pytest.mark.parametrize("task", TARGETS)
def test_final_run_with_many_mistakes_has_an_interval_of_each_score(task):
    found = trained(made(task), total=1, kept=True, final=True).results
    assert found["test_intervals"].keys() == {f"test_{name}" for name in TESTED[task]} | {"test_loss"}
    for name, (low, high) in found["test_intervals"].items():
        assert low <= found[name] <= high


def balanced_error(targets, outputs):
    assert outputs.shape == (len(targets), 3)
    return float((outputs.argmax(axis=1) != targets).mean())


def test_own_metric_is_reported_selected_and_recorded():
    objective = made(
        "classes", metrics=["auc", balanced_error], metric="val_balanced_error", direction="minimize"
    )
    run = trained(objective, total=1, kept=True)
    assert {"val_auc", "val_balanced_error"} <= run.history[0].keys()
    assert "val_accuracy" not in run.history[0]
    final = trained(objective, total=1, kept=True, final=True)
    assert final.results["test_balanced_error"] == pytest.approx(1 - final.results["test_accuracy"])


def test_description_offers_the_metrics_of_the_task_with_their_directions():
    offered = type(made("classes")).describe("o").metrics
    assert offered["val_auc"] == "maximize"
    assert offered["val_loss"] == offered["val_log_loss"] == "minimize"
    assert {"accuracy", "learning_rate", "val_rmse"}.isdisjoint(offered)
    options = DataOptions(source="x", task="regression")
    assert type(made("classes")).describe("o", options).metrics["val_rmse"] == "minimize"
    assert type("Own", (Tabular,), {"train": lambda *_: None}).describe("o").metrics == {}


def test_check_refuses_a_metric_of_more_classes_than_the_data_has():
    with pytest.raises(
        ObjectiveBrokenError, match="val_top_5_accuracy needs more than 5 classes, and the data has 3"
    ):
        made("classes").check(PARAMS, DEVICE, "val_top_5_accuracy")


def test_metric_of_the_study_is_reported_besides_the_objectives():
    run = trained(made("classes"), total=1, kept=True, metric="val_macro_f1")
    assert {"val_accuracy", "val_macro_f1"} <= run.history[0].keys()


@pytest.mark.parametrize("task", ["classes", "binary", "labels"])
def test_final_run_records_the_log_loss_if_the_study_has_chosen_it(task):
    found = trained(made(task), total=1, kept=True, final=True, metric="val_log_loss").results
    assert found["test_log_loss"] == pytest.approx(found["test_loss"])
    assert found["test_intervals"]["test_log_loss"] == pytest.approx(found["test_intervals"]["test_loss"])


def needs_all_classes(targets, outputs):
    assert len(np.unique(targets)) == outputs.shape[1]
    return float(np.corrcoef(targets == 0, outputs[:, 0])[0, 1])


@pytest.mark.parametrize("folds", [None, 3])
def test_own_metric_is_checked_with_all_validation_rows(folds):
    objective = made("classes", metrics=[needs_all_classes])
    pairs = {"train": (X[:80], TARGETS["classes"][:80])}
    objective._data = split(arrays.checked(pairs), DataOptions(folds=folds), final=False)
    objective.check(PARAMS, DEVICE)
