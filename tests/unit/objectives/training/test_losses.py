"""Losses of Keras and of objectives, in the form that each needs, and weights of classes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from objectives.tasks.table import task_of
from objectives.training import trial_model
from tests.unit.objectives.training.tabular import PARAMS, Tabular, made, own_cross_entropy, trained

LOSSES = {
    "name": "sparse_categorical_crossentropy",
    "one-hot": keras.losses.CategoricalCrossentropy(),
    "logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "class": "CategoricalCrossentropy",
    "function": own_cross_entropy,
}


@pytest.fixture(scope="module")
def default_losses():
    return [metrics["val_loss"] for metrics in trained(made("classes"), total=1, kept=True).history]


@pytest.mark.parametrize(
    ("loss", "softmax"), [*((loss, False) for loss in LOSSES), ("one-hot", True), ("logits", True)]
)
def test_loss_of_keras_gets_the_form_that_it_needs(loss, softmax, default_losses):
    class Ending(Tabular):
        def build(self, params, data):
            model = super().build(params, data)
            return keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0])) if softmax else model

    run = trained(made("classes", Ending, loss=LOSSES[loss]), total=1)
    assert [metrics["val_loss"] for metrics in run.history] == pytest.approx(default_losses, rel=1e-4)


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        ("binary", "binary_crossentropy"),
        ("binary", keras.losses.BinaryFocalCrossentropy(from_logits=True)),
        ("labels", "binary_focal_crossentropy"),
        ("regression", "huber"),
        ("regression", lambda targets, outputs: keras.ops.mean(keras.ops.abs(targets - outputs), axis=-1)),
    ],
)
def test_losses_of_other_tasks_train(task, loss):
    run = trained(made(task, loss=loss), total=4)
    assert run.history[-1]["val_loss"] < run.history[0]["val_loss"]


@pytest.mark.parametrize(
    ("task", "weight"), [("classes", {"dog": 50.0}), ("binary", {1: 50.0}), ("labels", {"0": 50})]
)
def test_class_weight_raises_the_share_of_its_predictions(task, weight):
    shares = []
    for given in (None, weight):
        objective = made(task, class_weight=given)
        run = trained(objective, total=8, kept=True, final=True)
        if task == "labels":
            shares.append(run.results["per_label"][0]["recall"])
        else:
            shares.append(np.sum(run.results["confusion"], axis=0)[1] / 40)
    assert shares[1] > shares[0] or shares == [1.0, 1.0]


@pytest.mark.parametrize("given", [{0: 2, "dog": 3}, {np.int64(0): np.float32(2), np.int64(1): 3}])
def test_class_weight_takes_names_and_numbers_of_classes(given):
    assert task_of(made("classes")._data).weights(given).tolist() == [2, 3, 1]


def squares(targets, outputs):
    return keras.ops.square(targets - keras.ops.sigmoid(outputs))


def test_class_weight_weights_each_example_of_a_loss_with_columns():
    objective = made("binary", loss=squares, class_weight={1: 3.0})
    _, judge = trial_model.build(objective, PARAMS, objective._data)
    losses = judge.loss.training(
        *map(keras.ops.convert_to_tensor, (np.array([0, 1, 1]), np.zeros((3, 1), "f4")))
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses), [0.25, 0.75, 0.75])
