"""Training for each task: exact when resumed, with records of a final run and clear errors for what cannot fit."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.data import arrays
from objectives.data.splits import split
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.training import trial_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
LOGITS = X @ RNG.normal(size=(6, 3)) * 3
TARGETS = {
    "classes": np.array(["cat", "dog", "eel"])[LOGITS.argmax(axis=1)],
    "labels": LOGITS > 0,
    "binary": LOGITS[:, 0] > 1.0,
    "regression": LOGITS[:, :2] * 100 + 5000,
}
PARAMS = {"learning_rate": 0.05, "batch_size": 16}
DEVICE = Device(precision="float32")


def rows(x, part):
    return {name: array[part] for name, array in x.items()} if isinstance(x, dict) else x[part]


def prepared(objective, final=False):
    """Return the objective with its data: 80 examples to train and validate on, 40 to test."""
    cls, parts = type(objective), {"train": slice(80), "test": slice(80, None)}
    pairs = {split: (rows(cls.x, part), cls.targets[part]) for split, part in parts.items()}
    objective._data = split(arrays.checked(pairs, cls.task), DataOptions(), final)
    return objective


class Tabular(KerasObjective):
    """A linear model with dropout."""

    epochs = 3
    space = {"learning_rate": FloatDistribution(0.001, 0.1)}

    def build(self, params, data):  # noqa: ARG002 - nothing to tune in it
        inputs = keras.Input(data.input_shape)
        x = keras.layers.Dropout(0.1)(inputs)
        return keras.Model(inputs, keras.layers.Dense(data.output_size, name="head")(x))


def made(task, base=Tabular, **attributes):
    """Return an objective of a task, with its data for a trial."""
    given = {"task": task, "x": X, "targets": TARGETS[task]}
    return prepared(type("Made", (base,), given | attributes)())


def trained(objective, total=3, **options):
    run = LocalRun(total, seed=3, device=DEVICE, **options)
    if run.final:
        prepared(objective, final=True)
    objective.train(PARAMS, run)
    return run


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
    first = trained(objective, stop_after=1)
    rest = trained(objective, resume=first.checkpoint)
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
    run = trained(objective, total=12, final=True, output=tmp_path)
    found, data = run.results, objective._data
    tested = {f"test_{name}" for name in TESTED[task]}
    assert (
        RECORDS[task] | tested | {"test_loss", "n_test", "n_train", "parameters", "precision"} <= found.keys()
    )
    assert found["test_intervals"].keys() == tested | {"test_loss"}
    for name, (low, high) in found["test_intervals"].items():
        assert low <= found[name] <= high
    name, least = BOUND[task]
    assert found[f"test_{name}"] > least
    assert (found["task"], found["input"]) == (task, {"shape": [6], "dtype": "float32"})
    outputs = keras.saving.load_model(tmp_path / "model.keras").predict(data.x_test, verbose=0)
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


def balanced_error(targets, outputs):
    assert outputs.shape == (len(targets), 3)
    return float((outputs.argmax(axis=1) != targets).mean())


def own_cross_entropy(targets, outputs):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True))


def test_own_metric_is_reported_selected_and_recorded():
    objective = made(
        "classes", metrics=["auc", balanced_error], metric="val_balanced_error", direction="minimize"
    )
    run = trained(objective, total=1)
    assert {"val_auc", "val_balanced_error"} <= run.history[0].keys()
    assert "val_accuracy" not in run.history[0]
    final = trained(objective, total=1, final=True)
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
    run = trained(made("classes"), total=1, metric="val_macro_f1")
    assert {"val_accuracy", "val_macro_f1"} <= run.history[0].keys()


LOSSES = {
    "name": "sparse_categorical_crossentropy",
    "one-hot": keras.losses.CategoricalCrossentropy(),
    "logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "class": "CategoricalCrossentropy",
    "function": own_cross_entropy,
}


@pytest.fixture(scope="module")
def default_losses():
    return [metrics["val_loss"] for metrics in trained(made("classes"), total=1).history]


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
        run = trained(objective, total=8, final=True)
        if task == "labels":
            shares.append(run.results["per_label"][0]["recall"])
        else:
            shares.append(np.sum(run.results["confusion"], axis=0)[1] / 40)
    assert shares[1] > shares[0] or shares == [1.0, 1.0]


def squares(targets, outputs):
    return keras.ops.square(targets - keras.ops.sigmoid(outputs))


def test_class_weight_weights_each_example_of_a_loss_with_columns():
    objective = made("binary", loss=squares, class_weight={1: 3.0})
    _, judge = trial_model.build(objective, PARAMS, objective._data)
    losses = judge.loss.training(
        *map(keras.ops.convert_to_tensor, (np.array([0, 1, 1]), np.zeros((3, 1), "f4")))
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses), [0.25, 0.75, 0.75])


def needs_all_classes(targets, outputs):
    assert len(np.unique(targets)) == outputs.shape[1]
    return float(np.corrcoef(targets == 0, outputs[:, 0])[0, 1])


@pytest.mark.parametrize("folds", [None, 3])
def test_own_metric_is_checked_with_all_validation_rows(folds):
    objective = made("classes", metrics=[needs_all_classes])
    pairs = {"train": (X[:80], TARGETS["classes"][:80])}
    objective._data = split(arrays.checked(pairs), DataOptions(folds=folds), final=False)
    objective.check(PARAMS, DEVICE)


PAIRS = {"image": RNG.integers(0, 2**16, (120, 4, 4, 1)).astype(np.uint16), "row": X}


class TwoInputs(Tabular):
    def build(self, params, data):  # noqa: ARG002
        inputs = {name: keras.Input(shape, name=name) for name, shape in data.input_shape.items()}
        flat = [keras.layers.Rescaling(1 / 65535)(keras.layers.Flatten()(inputs["image"])), inputs["row"]]
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(keras.layers.Concatenate()(flat)))


class ListOfInputs(TwoInputs):
    def build(self, params, data):
        model = super().build(params, data)
        return keras.Model([model.input["row"], model.input["image"]], model.outputs[0])


class Text(Tabular):
    def build(self, params, data):  # noqa: ARG002
        vectorize = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=9)
        vectorize.adapt(data.x_train)
        inputs = keras.Input((), dtype="string")
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(vectorize(inputs)))


class Tokens(Tabular):
    def build(self, params, data):  # noqa: ARG002
        inputs = keras.Input(data.input_shape, dtype="int32")
        embedded = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 4)(inputs))
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(embedded))


TEXTS = np.array([f"{name} is an animal" for name in TARGETS["classes"]])
INPUTS = {
    "dict": (TwoInputs, PAIRS),
    "list": (ListOfInputs, PAIRS),
    "text": (Text, TEXTS),
    "tokens": (Tokens, RNG.integers(0, 50, (120, 7))),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_each_kind_of_input_trains_and_is_exported(kind, tmp_path):
    if kind == "text" and backend.name() != "tensorflow":
        pytest.skip("Keras has strings on TensorFlow alone")
    base, x = INPUTS[kind]
    objective = made("classes", base, x=x)
    objective.check(PARAMS, DEVICE)
    run = trained(objective, total=6, final=True, output=tmp_path)
    model = keras.saving.load_model(tmp_path / "model.keras")
    outputs = backend.current().forward(model)(objective._data.x_test)
    assert outputs.shape == (40, 3)
    assert (outputs.argmax(axis=1) == objective._data.y_test).mean() == run.results["test_accuracy"]
    if kind == "text":
        assert run.results["test_accuracy"] > 0.9


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
def test_what_cannot_be_trained_is_refused_by_the_check(case):
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
    outputs = keras.saving.load_model(tmp_path / "model.keras").predict(X, verbose=0)
    assert 0 <= outputs.min() < outputs.max() <= 1
    assert run.results["test_mae"] < 1


def test_sigmoid_of_classes_becomes_a_softmax():
    run = trained(made("classes", dense(3, "sigmoid")), total=1)
    assert run.messages[0] == (
        "the sigmoid at the end of the model is taken off, because training needs logits; the exported model gets a"
        " softmax"
    )
