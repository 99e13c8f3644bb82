"""Models, losses, weights and metrics that do not fit the data: refused before a study, in one line."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives.augment import Augmentation
from objectives.training import trial_model
from objectives.training.evaluation import exported
from tests.unit.objectives.training.tabular import (
    DEVICE,
    LOGITS,
    PAIRS,
    PARAMS,
    Tabular,
    TwoInputs,
    X,
    made,
    own_cross_entropy,
    trained,
)


def arranged(arrange):
    """Return a base class for models whose inputs are given in another structure."""

    class Arranged(TwoInputs):
        def build(self, params, data):
            model = super().build(params, data)
            with warnings.catch_warnings(action="ignore"):
                return keras.Model(arrange(**model.input), model.outputs[0])

    return Arranged


class Misnamed(TwoInputs):
    def build(self, params, data):
        model = super().build(params, data)
        image, line = keras.Input((4, 4, 1), name="image"), keras.Input((6,), name="line")
        return keras.Model([image, line], model({"image": image, "row": line}))


def ending(*layers):
    """Return a base class whose model ends in these layers."""

    class Ending(Tabular):
        def build(self, params, data):  # noqa: ARG002
            return keras.Sequential([keras.Input(data.input_shape), *(make(data) for make in layers)])

    return Ending


def dense(units, activation=None):
    return ending(lambda _: keras.layers.Dense(units, activation=activation))


def own_end(units, function):
    """Return a base class whose model ends in a function that Keras does not know."""
    return ending(lambda _: keras.layers.Dense(units), lambda _: keras.layers.Lambda(function))


def exponentials(x):
    """Return a softmax without the warning of Keras for one output."""
    return keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), axis=-1, keepdims=True)


WRONG = {
    "outputs": ("classes", dense(5), {}, "not a logit for each of 3 classes"),
    "binary of two": ("binary", dense(2), {}, 'or set task = "classes", which needs two outputs'),
    "labels": ("labels", dense(1), {}, "not a logit for each of 3 labels"),
    "numbers": ("regression", dense(3), {}, "not a number for each of 2 targets"),
    "softmax": (
        "regression",
        dense(2, "softmax"),
        {},
        "the model ends in a softmax, whose outputs sum to one",
    ),
    "sigmoid": (
        "regression",
        dense(2, "sigmoid"),
        {},
        "the model ends in a sigmoid, whose outputs lie",
    ),
    "own softmax": ("regression", own_end(2, keras.ops.softmax), {}, "ends in a softmax, whose outputs sum"),
    "own softmax of labels": ("labels", own_end(3, keras.ops.softmax), {}, "example may have several labels"),
    "own softmax of one": ("binary", own_end(1, exponentials), {}, "so that its only output is always 1"),
    "own sigmoid": (
        "regression",
        own_end(2, keras.ops.sigmoid),
        {},
        "the model ends in a sigmoid, whose outputs lie between 0 and 1, but the targets of this regression lie",
    ),
    "tanh": (
        "regression",
        dense(2, "tanh"),
        {},
        "a tanh, whose outputs lie between -1 and 1, but the targets",
    ),
    "never positive": (
        "regression",
        own_end(2, lambda x: -keras.ops.softplus(x)),
        {},
        "the model ends in outputs that are never positive, but the targets",
    ),
    "log_sigmoid": (
        "binary",
        dense(1, "log_sigmoid"),
        {},
        "the model ends in outputs that are never positive, and a sigmoid gives them probabilities below 0.5 alone:"
        " end it in keras.layers.Dense(data.output_size)",
    ),
    "softplus": (
        "labels",
        dense(3, "softplus"),
        {},
        "never negative, and a sigmoid gives them probabilities above",
    ),
    "augmentation": (
        "classes",
        Tabular,
        {"augmentation": Augmentation(flip=True)},
        "augmentation applies to images",
    ),
    "weights": (
        "regression",
        Tabular,
        {"class_weight": "balanced"},
        "does not apply to task 'regression'",
    ),
    "names": (
        "classes",
        Tabular,
        {"class_weight": {"cow": 2}},
        "class_weight names 'cow', which is not a class",
    ),
    "number of a class and its name": (
        "classes",
        Tabular,
        {"targets": np.array(["1", "2", "3"])[LOGITS.argmax(axis=1)], "class_weight": {0: 2, 1: 3, 2: 4}},
        "class_weight has two weights for the class '1', by 0 and 1: use the names '1', '2', '3'",
    ),
    "own loss": (
        "labels",
        Tabular,
        {"class_weight": {0: 2}, "loss": "mse"},
        "class_weight applies to the default",
    ),
    "weight": ("binary", Tabular, {"class_weight": {1: "2,0"}}, "class_weight of 1 is '2,0': use a number"),
    "negative weight": ("binary", Tabular, {"class_weight": {1: -1}}, "use a number of at least 0"),
    "missing weight": ("binary", Tabular, {"class_weight": {1: None}}, "use a number of at least 0"),
    "infinite weight": ("binary", Tabular, {"class_weight": {1: np.nan}}, "use a number of at least 0"),
    "no weight": ("binary", Tabular, {"class_weight": {0: 0, 1: 0}}, "class_weight is 0 for all classes"),
    "weighted mean": (
        "classes",
        Tabular,
        {"class_weight": {"dog": 2.0}, "loss": own_cross_entropy},
        "own_cross_entropy returns one number for all of them",
    ),
    "constant loss": (
        "binary",
        Tabular,
        # As Keras' cross-entropy over classes, of which there is one.
        {"loss": lambda targets, outputs: 0.0 * targets * outputs},
        "the loss is 0 for outputs of (1,) whatever they are",
    ),
    "sampling": ("labels", Tabular, {"sampling": "balanced"}, "does not apply to task 'labels'"),
    "loss name": ("classes", Tabular, {"loss": "mean_square_error"}, "did you mean mean_squared_error"),
    "loss": ("regression", Tabular, {"loss": lambda *_: 1 / 0}, "the loss fails for outputs of (2,)"),
    "metric": (
        "classes",
        Tabular,
        {"metrics": [own_cross_entropy.__get__(0)]},
        "the metric own_cross_entropy fails",
    ),
    "swapped keys": (
        "classes",
        arranged(lambda image, row: {"row": image, "image": row}),
        {"x": PAIRS},
        "has another input under 'row'",
    ),
    "other keys": (
        "classes",
        arranged(lambda image, row: {"left": image, "right": row}),
        {"x": PAIRS},
        "has another input under 'left'",
    ),
    "nested inputs": (
        "classes",
        arranged(lambda image, row: (image, (row,))),
        {"x": PAIRS},
        "a model with nested inputs",
    ),
    "inputs": (
        "classes",
        Misnamed,
        {"x": PAIRS},
        "a model with the inputs image, line, but the data has image, row",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_model_that_does_not_fit_is_refused_by_the_check(case):
    task, base, attributes, message = WRONG[case]
    objective = made(task, base, **attributes)
    with pytest.raises(ObjectiveBrokenError) as refused:
        objective.check(PARAMS, DEVICE)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sigmoid_at_the_end_of_a_regression_of_shares_is_kept(tmp_path):
    shares = 1 / (1 + np.exp(-LOGITS[:, :2]))
    run = trained(
        made("regression", dense(2, "sigmoid"), targets=shares), total=1, final=True, output=tmp_path
    )
    outputs = keras.ops.convert_to_numpy(keras.saving.load_model(tmp_path / "model.keras")(X))
    assert 0 <= outputs.min() < outputs.max() <= 1
    assert run.results["test_mae"] < 1


@pytest.mark.parametrize(
    ("task", "base", "attributes"),
    [
        ("regression", dense(2, "softmax"), {"targets": np.stack([X[:, 0] > 0, X[:, 0] <= 0], axis=1) / 1.0}),
        ("regression", dense(2, "tanh"), {"targets": np.tanh(LOGITS[:, :2])}),
        ("regression", dense(2, "relu"), {}),
        ("classes", dense(3, "relu"), {}),
        ("classes", dense(3, "log_softmax"), {"loss": own_cross_entropy}),
        ("binary", dense(1, "softplus"), {"loss": lambda y, rate: y * keras.ops.exp(-rate) + (1 - y) * rate}),
    ],
)
def test_ends_that_reach_the_targets_are_kept(task, base, attributes):
    made(task, base, **attributes).check(PARAMS, DEVICE)
    [line] = trained(made(task, base, **attributes), total=1).messages
    assert line.startswith("epoch 1/1: loss=")


def test_own_softmax_of_labels_with_an_own_loss_is_exported_as_it_is():
    objective = made("labels", own_end(3, keras.ops.softmax), loss="binary_crossentropy")
    model, judge = trial_model.build(objective, PARAMS, objective._data)
    outputs = keras.ops.convert_to_numpy(exported(model, judge.task)(X[:9]))
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "units", "kind"), [("classes", 3, "softmax"), ("binary", 1, "sigmoid"), ("labels", 3, "sigmoid")]
)
def test_probabilities_of_own_code_train_as_their_logits(tmp_path, task, units, kind):
    ends = own_end(units, getattr(keras.ops, kind)), dense(units, kind)
    own, known = (trained(made(task, end), kept=end is ends[1]) for end in ends)
    assert own.messages[0] == (
        f"the outputs of the model are those of a {kind}, so that it is trained on their logits; the exported model"
        f" gets a {kind}"
    )
    assert len(own.history) == len(known.history) == 3
    for name in ("loss", "val_loss", "val_accuracy"):
        ours, theirs = ([metrics[name] for metrics in run.history] for run in (own, known))
        assert ours == pytest.approx(theirs, rel=1e-4), name
    own, known = (trained(made(task, end), kept=end is ends[1], final=True, output=tmp_path) for end in ends)
    assert own.results["test_loss"] == pytest.approx(known.results["test_loss"], rel=1e-4)
    assert own.results["test_accuracy"] == known.results["test_accuracy"]


def test_sigmoid_of_classes_becomes_a_softmax():
    run = trained(made("classes", dense(3, "sigmoid")), total=1)
    assert run.messages[0] == (
        "the sigmoid at the end of the model is taken off, because training needs logits; the exported model gets a"
        " softmax"
    )
