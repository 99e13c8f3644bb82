"""Recipes in the training loop: exact when resumed and extended, validated and exported as documented."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives import backend, validation
from objectives.augment import Augmentation, Mixing
from objectives.base import DataOptions
from objectives.device import Device
from objectives.local_run import LocalRun
from objectives.recipes.averaging import averaged
from objectives.shipped.digits_cnn import DigitsCNN
from objectives.tasks.classes import cross_entropy
from objectives.training import evaluation
from objectives.training.averages import AveragedWeights
from objectives.training.mixed_targets import first_accuracy, mixed_loss
from tests.unit.objectives.training.kept import with_programs
from tests.unit.objectives.training.tabular import PAIRS, Tabular, TwoInputs, made, trained

EPOCHS = 4
DEVICE = Device(precision="float32")
PARAMS = dict(DigitsCNN.first[0])


class Recipes(DigitsCNN):
    """All recipes at once."""

    augmentation = Augmentation(flip="alternating", shift=1, rotation_degrees=10, fade=0.5, plain_epochs=1)
    mixing = Mixing(mixup=0.4, cutmix=1.0, fade=0.5)
    weight_averaging = 0.9
    learning_rate_factors = {"beta": 8.0, "bias": 2.0}
    schedule = "constant-decay"

    def build(self, params, data):
        from objectives.architectures import cnn

        options = {"activation": "silu", "whitening": 2, "dirac": True}
        return cnn(data, widths=(8,), dense=16, dropout=params["dropout"], **options)


class LookingAhead(Recipes):
    weight_averaging = "lookahead"
    mixing = None


def prepared(cls, final=False):
    objective = cls()
    objective.prepare(DataOptions(limit=360, validation_fraction=0.2), final=final)
    return objective


class Case:
    """Runs of an objective with recipes: all epochs at once, extended by two, and the same with two interruptions."""

    def __init__(self, cls, optimizer: str) -> None:
        # The last part, which traces the second cycle alone, has programs of its own.
        self.objective, self.params = with_programs(prepared(cls)), PARAMS | {"optimizer": optimizer}
        self.traced: list[None] = []
        """An item for each time that Keras' training step was called in the first part."""
        self.judged: list[dict[str, np.ndarray]] = []
        """The variables with which the first part computed the outputs of each validation, by path."""
        self.after: dict[str, np.ndarray] = {}
        """Those of the end of the first part."""
        first = self._watched()
        second = self.run(EPOCHS, resume=first.checkpoint)
        self.whole = self.run(EPOCHS + 2, restarts=(EPOCHS,))
        self.objective._programs = None
        third = self.run(EPOCHS + 2, restarts=(EPOCHS,), resume=second.checkpoint)
        self.parts = [first, second, third]

    def run(self, total: int, **options) -> LocalRun:
        run = LocalRun(total, seed=3, device=DEVICE, **options)
        self.objective.train(self.params, run)
        return run

    def _watched(self) -> LocalRun:
        forward, raw_outputs = backend.current().forward, evaluation.raw_outputs
        train_step = keras.Model.train_step
        models: list[keras.Model] = []

        def values():
            return {one.path: np.array(keras.ops.convert_to_numpy(one)) for one in models[0].variables}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend.current(), "forward", lambda model: models.append(model) or forward(model))
            patch.setattr(
                evaluation,
                "raw_outputs",
                lambda *arguments: self.judged.append(values()) or raw_outputs(*arguments),
            )
            patch.setattr(
                keras.Model,
                "train_step",
                lambda *arguments: self.traced.append(None) or train_step(*arguments),
            )
            run = self.run(EPOCHS, stop_after=3)
            self.after = values()
        return run


@pytest.fixture(
    scope="module", params=[(Recipes, "adam"), (LookingAhead, "sgd")], ids=["average", "lookahead"]
)
def case(request) -> Case:
    return Case(*request.param)


def exact(history):
    return [{name: value for name, value in one.items() if name != "images_per_second"} for one in history]


def test_declaration_is_valid():
    assert [validation.problem(cls) for cls in (Recipes, LookingAhead)] == [None, None]


def test_run_with_recipes_that_was_interrupted_and_extended_equals_uninterrupted_run(case):
    assert exact([one for part in case.parts for one in part.history]) == exact(case.whole.history)
    expected, found = (run.checkpoint.state for run in (case.whole, case.parts[-1]))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_constant_learning_rate_falls_at_the_end_of_each_cycle(case):
    peak = PARAMS["learning_rate"]
    rates = [metrics["learning_rate"] for metrics in case.whole.history]
    assert rates == pytest.approx([peak] * 3 + [0, peak, 0], abs=1e-9)


def test_average_is_validated_with_statistics_of_its_own_and_training_goes_on_from_the_weights(case):
    judged = case.judged[-1]
    changed = {path.rpartition("/")[2] for path, value in case.after.items() if (value != judged[path]).any()}
    assert {"moving_mean", "moving_variance", "kernel"} <= changed
    state = case.parts[0].checkpoint.state
    for index, value in enumerate(case.after.values()):
        np.testing.assert_array_equal(state[f"model/{index:04d}"], value)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="other backends have no graph to trace")
def test_changes_from_epoch_to_epoch_need_no_further_trace(case):
    assert len(case.traced) == 1


def test_exported_model_is_the_average_in_stock_layers(tmp_path):
    objective = prepared(Recipes, final=True)
    run = LocalRun(total_epochs=2, seed=3, device=DEVICE, final=True, output=tmp_path, metric="val_accuracy")
    objective.train(PARAMS, run)
    assert "load_model" not in run.results
    assert "test_accuracy_flip_averaged" in run.results
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    names = {getattr(layer, "kernel_initializer", None).__class__.__name__ for layer in model.layers}
    assert "Dirac" not in names
    probabilities = keras.ops.convert_to_numpy(model(objective._data.x_test))
    assert np.mean(probabilities.argmax(axis=1) == objective._data.y_test) == pytest.approx(
        run.results["test_accuracy"]
    )
    # The checkpoint has the weights and their averages, in the order of the trained variables.
    arrays = [value for name, value in run.checkpoint.state.items() if name.startswith("optimizer")]
    kernel = next(layer for layer in model.layers if layer.name == "logits").kernel
    same = [
        value for value in arrays if value.shape == tuple(kernel.shape) and (value == np.array(kernel)).all()
    ]
    assert len(same) == 1
    np.testing.assert_array_equal(np.array(model.get_layer("whitening").kernel), _filters(objective._data))


def _filters(data):
    from objectives.recipes.whitening import whitening_filters

    return whitening_filters(data, 2)


@pytest.mark.parametrize("frozen", [False, True])
def test_statistics_are_those_of_the_rows_that_were_trained_on_and_frozen_ones_stay(frozen):
    rows = np.random.default_rng(0).normal(5, 2, size=(40, 3)).astype(np.float32)
    normalization = keras.layers.BatchNormalization(trainable=not frozen)
    model = keras.Sequential([keras.Input((3,)), normalization, keras.layers.Dense(1)])
    model.compile(averaged(keras.optimizers.SGD(0.1), 0.9))
    model.optimizer.build(model.trainable_variables)
    with AveragedWeights(model, rows).applied(np.arange(20), np.random.default_rng(0)):
        found = [np.array(one) for one in (normalization.moving_mean, normalization.moving_variance)]
    trained = [rows[:20].mean(axis=0), rows[:20].var(axis=0)]
    for value, expected in zip(found, [np.zeros(3), np.ones(3)] if frozen else trained, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert (normalization.momentum, np.array(normalization.moving_mean).tolist()) == (0.99, [0, 0, 0])


class Mixed(Tabular):
    mixing = Mixing(mixup=0.4)
    class_weight = "balanced"


@pytest.mark.parametrize("task", ["classes", "labels", "binary"])
def test_rows_of_each_task_of_classes_are_mixed(task):
    history = trained(made(task, Mixed)).history
    assert {"accuracy", "loss", "val_loss", "val_accuracy"} <= history[0].keys()
    assert history[-1]["val_loss"] < history[0]["val_loss"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_of_a_mixture_is_that_of_soft_labels(smoothing):
    rng = np.random.default_rng(0)
    logits, first, other = (
        rng.normal(size=(5, 3)).astype(np.float32),
        np.array([0, 1, 2, 1, 0]),
        np.arange(5) % 3,
    )
    shares = np.linspace(0.5, 1, 5, dtype=np.float32)
    targets = np.stack([first, other, shares], axis=1).astype(np.float32)
    soft = shares[:, None] * np.eye(3)[first] + (1 - shares[:, None]) * np.eye(3)[other]
    soft = (1 - smoothing) * soft + smoothing / 3
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    tensors = [keras.ops.convert_to_tensor(one) for one in (targets, logits)]
    found = keras.ops.convert_to_numpy(mixed_loss(cross_entropy(smoothing))(*tensors))
    np.testing.assert_allclose(found, -(soft * log_p).sum(axis=1), rtol=1e-5)
    (metric,) = first_accuracy(["accuracy"])
    metric.update_state(*tensors)
    assert float(metric.result()) == pytest.approx((logits.argmax(axis=1) == first).mean())


@pytest.mark.parametrize(
    ("task", "base", "attributes", "message"),
    [
        (
            "regression",
            Tabular,
            {"mixing": Mixing(mixup=0.2)},
            "the targets of task 'regression' are numbers",
        ),
        ("classes", Tabular, {"mixing": Mixing(cutmix=1.0)}, r"cutmix applies to images.*: use mixup"),
        (
            "classes",
            TwoInputs,
            {"mixing": Mixing(mixup=0.2)},
            "mixing applies to images, or to one input of floats",
        ),
        ("classes", Tabular, {"augmentation": Augmentation(flip=True)}, "augmentation applies to images"),
    ],
)
def test_changes_that_do_not_apply_to_the_data_are_refused(task, base, attributes, message):
    inputs = {"x": PAIRS} if base is TwoInputs else {}
    with pytest.raises(ObjectiveBrokenError, match=message):
        trained(made(task, base, **inputs, **attributes))


def test_own_augmentation_that_is_wrong_is_refused():
    class Wrong(DigitsCNN):
        def augment(self, data):  # noqa: ARG002 - the same for all
            return Augmentation(shift=-1)

    with pytest.raises(ObjectiveBrokenError, match=r"that augment\(\) returned is wrong: shift must be"):
        prepared(Wrong).train(PARAMS, LocalRun(total_epochs=1))


def test_mixing_with_a_loss_of_its_own_is_refused():
    found = type("Own", (Mixed,), {"loss": "mean_squared_error", "dataset": "digits"})
    assert "mixing applies to the default loss" in validation.problem(found)
