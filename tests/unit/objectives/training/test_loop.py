"""Training of Keras objectives on scikit-learn's digits: exact when resumed, with clear errors."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from hpo.errors import ObjectiveBrokenError
from objectives import backend
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.device import Device
from objectives.errors import DivergedError
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.tasks.classes import cross_entropy
from objectives.training import epochs
from tests.unit.objectives.training.kept import sharing, with_programs
from tests.unit.objectives.training.small_digits import SmallDigits
from tests.unit.objectives.training.tabular import CLASSIFIED

EPOCHS = 4
BFLOAT16 = Device(precision="bfloat16")
FLOAT32 = Device(precision="float32")
PARAMS = dict(SmallDigits.first[0])


class AugmentedDigits(SmallDigits):
    augmentation = Augmentation(shift=1, rotation_degrees=5)


@pytest.fixture(scope="module")
def digits() -> SmallDigits:
    objective = AugmentedDigits()
    objective.prepare(DataOptions(limit=800, validation_fraction=0.2), final=False)
    return objective


@pytest.fixture(scope="module")
def keeping(digits) -> SmallDigits:
    """Return an objective with the same data that traces a program for each optimizer and precision, and keeps it.

    `whole_run` and `whole_sgd_run`, to which its runs are compared, have programs of their own.
    """
    return with_programs(sharing(AugmentedDigits, digits))


@pytest.fixture(scope="module")
def traced() -> list[None]:
    """Return an item for each time that Keras' training step was called in `whole_run`."""
    return []


@pytest.fixture(scope="module")
def whole_run(digits, traced) -> LocalRun:
    run = LocalRun(total_epochs=EPOCHS, seed=3, metric="val_accuracy", device=BFLOAT16)
    train_step = keras.Model.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.Model, "train_step", lambda *arguments: traced.append(None) or train_step(*arguments)
        )
        digits.train(PARAMS, run)
    return run


def exact(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return all metrics that must repeat exactly: all but the speed."""
    return [{name: value for name, value in m.items() if name != "images_per_second"} for m in history]


def test_each_epoch_reports_all_metrics(whole_run):
    assert [set(metrics) for metrics in whole_run.history] == [CLASSIFIED] * EPOCHS
    assert all(math.isfinite(value) for metrics in whole_run.history for value in metrics.values())
    assert whole_run.ticks[-1] == (25, 25, 800)


def test_training_improves_loss_and_accuracy(whole_run):
    assert whole_run.history[-1]["val_accuracy"] > 0.4
    assert whole_run.history[-1]["loss"] < whole_run.history[0]["loss"]


def test_learning_rate_falls_to_zero(whole_run):
    rates = [metrics["learning_rate"] for metrics in whole_run.history]
    assert rates[0] > rates[1] > rates[2] > rates[3] == pytest.approx(0, abs=1e-9)


@pytest.fixture(scope="module")
def whole_sgd_run(digits) -> LocalRun:
    run = LocalRun(total_epochs=EPOCHS, seed=3, device=FLOAT32)
    digits.train(PARAMS | {"optimizer": "sgd"}, run)
    return run


@pytest.mark.parametrize(
    ("optimizer", "device", "uninterrupted"),
    [("adam", BFLOAT16, "whole_run"), ("sgd", FLOAT32, "whole_sgd_run")],
)
def test_run_that_was_interrupted_twice_equals_uninterrupted_run(
    keeping, request, optimizer, device, uninterrupted
):
    whole, checkpoint, history = request.getfixturevalue(uninterrupted), None, []
    for stop_after in (1, 3, None):
        run = LocalRun(EPOCHS, seed=3, device=device, resume=checkpoint, stop_after=stop_after)
        # Measuring them changes nothing.
        if optimizer == "adam":
            run.figures = ("parameters", "model_bytes", "latency_ms", "seconds_per_epoch")
        keeping.train(PARAMS | {"optimizer": optimizer}, run)
        if run.figures:
            assert run.measured["model_bytes"] == 4 * run.measured["parameters"] > 0
            assert run.measured["latency_ms"] > 0
        checkpoint, history = run.checkpoint, history + run.history
    assert exact(history) == exact(whole.history)
    for name, value in whole.checkpoint.state.items():
        np.testing.assert_array_equal(checkpoint.state[name], value, err_msg=name)


def test_chunk_size_does_not_change_results(keeping, whole_run, monkeypatch):
    monkeypatch.setattr(epochs, "CHUNK_STEPS", 1)
    run = LocalRun(total_epochs=EPOCHS, seed=3, device=BFLOAT16, stop_after=1)
    keeping.train(PARAMS, run)
    assert len(run.ticks) == 25
    assert exact(run.history) == exact(whole_run.history[:1])


def test_small_data_set_is_passed_through_several_times_in_an_epoch(monkeypatch):
    orders = []
    monkeypatch.setattr(
        epochs.Training,
        "_train",
        lambda training, epoch, _, part: (
            orders.append(training._ordered(part, epoch)) or {"loss": 0.0, "accuracy": 0.0}
        ),
    )
    for least in (0, 50):
        made = type("Small", (SmallDigits,), {"least_images_per_epoch": least})()
        made.prepare(DataOptions(limit=20), final=False)
        made.train(PARAMS, LocalRun(total_epochs=1, metric="val_accuracy"))
    once, thrice = orders
    assert (len(once), len(thrice)) == (20, 60)
    np.testing.assert_array_equal(once, thrice[:20])
    np.testing.assert_array_equal(np.sort(thrice.reshape(3, 20), axis=1), [np.arange(20)] * 3)


def test_another_seed_gives_other_results(keeping, whole_run):
    run = LocalRun(total_epochs=EPOCHS, seed=4, device=BFLOAT16, stop_after=1)
    keeping.train(PARAMS, run)
    assert exact(run.history) != exact(whole_run.history[:1])


def test_run_that_goes_on_after_its_end_begins_a_new_schedule(digits, keeping, whole_run):
    """The same where it was complete before, and where it trains on without an interruption."""
    longer = {"total_epochs": EPOCHS + 2, "restarts": (EPOCHS,), "seed": 3, "device": BFLOAT16}
    at_once, resumed = LocalRun(**longer), LocalRun(**longer, resume=whole_run.checkpoint)
    keeping.train(PARAMS, at_once)
    digits.train(PARAMS, resumed)
    assert exact(at_once.history) == exact(whole_run.history + resumed.history)
    for name, value in at_once.checkpoint.state.items():
        np.testing.assert_array_equal(resumed.checkpoint.state[name], value, err_msg=name)
    rates = [metrics["learning_rate"] for metrics in at_once.history]
    assert rates[EPOCHS] > 1e-5
    assert rates[EPOCHS - 1] == rates[-1] == pytest.approx(0, abs=1e-9)


def test_checkpoint_of_another_model_is_refused(whole_run, digits):
    class Wider(AugmentedDigits):
        def build(self, params, data):
            from objectives.architectures import cnn

            return cnn(data, widths=(8, 32), dense=64, dropout=params["dropout"])

    wider = Wider()
    wider._data = digits._data
    with pytest.raises(ObjectiveBrokenError, match="checkpoint does not fit"):
        wider.train(PARAMS, LocalRun(total_epochs=EPOCHS, resume=whole_run.checkpoint))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothed_label_is_shared_by_all_classes(smoothing):
    logits, labels = np.array([[2.0, 0.5, -1.0, 0.0], [0.0, 1.0, 0.0, 3.0]], np.float32), np.array([0, 1])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.full((2, 4), smoothing / 4) + (1 - smoothing) * np.eye(4)[labels]
    # Keras passes labels as floats.
    for given in (labels, labels[:, None], labels.astype(np.float32)):
        losses = np.array(cross_entropy(smoothing)(given, logits))
        np.testing.assert_allclose(losses, -(targets * log_p).sum(axis=1), rtol=1e-6)


def test_label_smoothing_affects_training_but_not_validation(digits):
    class Smoothed(AugmentedDigits):
        label_smoothing = 0.4

    smoothed = Smoothed()
    smoothed._data = digits._data
    run = LocalRun(total_epochs=3 * EPOCHS, seed=3, device=BFLOAT16)
    smoothed.train(PARAMS, run)
    # Labels of 0.64 for their class and 0.04 for nine others have an entropy of 1.44 nats, the lowest possible loss.
    assert run.history[-1]["loss"] > 1.4
    assert run.history[-1]["val_loss"] < 1.4


def test_divergence_ends_the_run_within_the_epoch(keeping):
    run = LocalRun(total_epochs=EPOCHS, device=FLOAT32)
    with pytest.raises(DivergedError, match=r"loss of epoch 1, batch \d+ of 25"):
        keeping.train(PARAMS | {"optimizer": "sgd", "learning_rate": 1e30}, run)
    assert run.history == []


@pytest.fixture(scope="module")
def final_digits() -> SmallDigits:
    """Return an objective with a test set, which keeps its programs."""
    objective = SmallDigits()
    objective.prepare(DataOptions(limit=400), final=True)
    return with_programs(objective)


def test_final_run_evaluates_once_and_exports_stock_layers(final_digits, tmp_path):
    import keras

    objective = final_digits
    interrupted = LocalRun(
        total_epochs=3, final=True, output=tmp_path, stop_after=2, metric="val_accuracy", device=BFLOAT16
    )
    objective.train(PARAMS, interrupted)
    assert interrupted.results == {}
    assert "val_loss" not in interrupted.history[0]
    run = LocalRun(
        total_epochs=3, final=True, output=tmp_path, resume=interrupted.checkpoint, device=BFLOAT16
    )
    objective.train(PARAMS, run)

    results = run.results
    assert not any("flip" in name for name in results)
    assert results["n_test"] == np.sum(results["confusion"]) == 359
    assert results["classes"] == list("0123456789")
    assert results["test_accuracy"] == pytest.approx(np.trace(results["confusion"]) / 359)
    data = objective._data
    np.testing.assert_array_equal(np.sum(results["confusion"], axis=1), np.bincount(data.y_test))

    model = keras.models.load_model(tmp_path / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    assert not {type(layer).__name__ for layer in model.layers} & {"FusedBatchNormalization", "FastDropout"}
    assert {layer.compute_dtype for layer in model.layers} <= {"float32", "uint8"}
    probabilities = keras.ops.convert_to_numpy(model(data.x_test))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == data.y_test) == pytest.approx(results["test_accuracy"])
    assert model.count_params() == results["parameters"]

    again = LocalRun(total_epochs=3, final=True, resume=run.checkpoint)
    objective.train(PARAMS, again)
    assert (again.history, again.results["test_loss"]) == ([], results["test_loss"])


def test_flip_average_is_recorded_with_flip_augmentation(final_digits):
    class Flipped(SmallDigits):
        augmentation = Augmentation(flip=True)

    run = LocalRun(total_epochs=1, final=True, device=BFLOAT16)
    sharing(Flipped, final_digits).train(PARAMS, run)
    assert {"test_accuracy_flip_averaged", "test_loss_flip_averaged"} <= run.results.keys()
    assert run.results["test_loss_flip_averaged"] != run.results["test_loss"]


def test_final_run_without_test_set_is_refused(digits):
    with pytest.raises(ValueError, match="final=True"):
        digits.train(PARAMS, LocalRun(total_epochs=1, final=True))


def colours():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8), np.arange(40) % 2


class Colours(KerasObjective):
    """A custom data set, smaller than a batch, and a custom optimizer."""

    dataset = colours
    classes = ("dark", "light")
    space = {"momentum": FloatDistribution(0.0, 1.0)}

    def build(self, params, data):  # noqa: ARG002 - nothing to tune in it
        import keras

        return keras.Sequential(
            [keras.Input(data.image_shape, dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(2)]
        )

    def optimizer(self, params, steps):  # noqa: ARG002 - a constant learning rate
        import keras

        return keras.optimizers.SGD(1e-5, momentum=params["momentum"])


def test_data_function_and_custom_optimizer_are_used():
    run = LocalRun(total_epochs=2)
    objective = Colours()
    objective.train({"momentum": 0.5}, run)
    assert [metrics["learning_rate"] for metrics in run.history] == pytest.approx([1e-5, 1e-5])
    assert objective._data.classes == ("dark", "light")
    assert run.ticks == [(1, 1, 36)] * 2


def test_data_without_test_set_are_warned_of():
    objective = Colours()
    assert objective.data_warning() == ""
    objective.prepare(DataOptions(), final=False)
    assert "there is no test set, which hpo retrain needs" in objective.data_warning()
    objective = type("Tested", (Colours,), {"dataset": staticmethod(lambda: (colours(), colours()))})()
    objective.prepare(DataOptions(), final=False)
    assert objective.data_warning() == ""


def _layers(*layers):
    import keras

    return keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), *layers])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda _: None, "must return a functional or sequential"),
        (lambda keras: keras.Sequential([keras.layers.Dense(2)]), "with an Input"),
        (lambda keras: _layers(keras.layers.Dense(3)), "not a logit for each of 2 classes"),
        (lambda keras: keras.Sequential([keras.Input((6, 6)), keras.layers.Dense(2)]), "but the data has"),
    ],
)
def test_model_that_does_not_fit_the_data_is_refused(build, message):
    class Wrong(Colours):
        def build(self, *_):
            import keras

            return build(keras)

    with pytest.raises(ObjectiveBrokenError, match=message):
        Wrong().train({"momentum": 0.5}, LocalRun(total_epochs=1))


def test_softmax_at_the_end_is_taken_off_and_exported_again(tmp_path):
    import keras

    class Ending(Colours):
        dataset = staticmethod(lambda: (colours(), colours()))
        activation = "softmax"

        def build(self, *_):
            keras.utils.set_random_seed(0)
            return _layers(keras.layers.Dense(2, activation=self.activation, name="probabilities"))

    class Plain(Ending):
        activation = None

    runs = [LocalRun(total_epochs=1, final=True, output=tmp_path / cls.__name__) for cls in (Ending, Plain)]
    for cls, run in zip((Ending, Plain), runs, strict=True):
        cls().train({"momentum": 0.5}, run)
    ending, plain = runs
    assert ending.history[0]["loss"] == plain.history[0]["loss"]
    assert "the softmax at the end of the model is taken off" in ending.messages[0]
    assert not any("softmax" in message for message in plain.messages)
    outputs = keras.saving.load_model(tmp_path / "Ending" / "model.keras")(np.zeros((1, 6, 6, 3)))
    assert float(np.sum(keras.ops.convert_to_numpy(outputs))) == pytest.approx(1.0)


def test_unknown_optimizer_is_refused(digits):
    with pytest.raises(ObjectiveBrokenError, match="unknown optimizer 'lion'"):
        digits.train(PARAMS | {"optimizer": "lion"}, LocalRun(total_epochs=1))


@pytest.mark.skipif(backend.name() != "tensorflow", reason="other backends have no graph to trace")
@pytest.mark.usefixtures("whole_run")
def test_trial_traces_its_steps_once(traced):
    """Each trace costs a second of every trial."""
    assert len(traced) == 1
