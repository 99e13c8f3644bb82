"""Declarations, networks and training of every shipped objective, on a few made-up images of its data set's shape."""

from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives import backend, loader
from objectives.base import DataOptions, Params
from objectives.data import datasets
from objectives.data.arrays import Arrays
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.training import batches, evaluation, layers, model_check

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
SPACE = {"batch_size", "optimizer", "learning_rate", "dropout", "weight_decay"}
METRICS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second"}

NAMES = tuple(name for name in loader.names() if loader.load(name).dataset is not None)
CIFAR = tuple(name for name in NAMES if name.startswith("cifar-"))
DIGITS = tuple(name for name in NAMES if name not in CIFAR)

BATCH = 16
STEPS = 30
"""Number of steps in tests of optimizers; a tenth of them is the warm-up."""
PEAK = 0.1


def made_up(name: str, _data_dir: object, test: bool = True, **_: object) -> Arrays:
    """Return sixty images, brighter and darker ones, each channel in its own range."""
    rng = np.random.default_rng(0)
    shape = SHAPES[name]
    levels = 60.0 * (1 + np.arange(shape[-1])) + rng.uniform(-30, 30, (60, 1, 1, 1))
    images = np.clip(levels + rng.normal(0, 20, (60, *shape)), 0, 255).astype(np.uint8)
    labels = np.arange(60) % 10
    return Arrays(images, labels, images if test else None, labels if test else None)


@pytest.fixture(scope="module", params=NAMES)
def objective(request) -> KerasObjective:
    """Return an objective with 48 training and 12 validation images."""
    made = loader.load(request.param)()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", made_up)
        made.prepare(DataOptions(validation_fraction=0.2), final=False)
    return made


one_objective = pytest.mark.parametrize("objective", ["digits-cnn"], indirect=True)
each_name = pytest.mark.parametrize("objective", NAMES, indirect=True)
each_optimizer = pytest.mark.parametrize("kind", ["sgd", "adam"])


def sampled(objective: KerasObjective) -> Params:
    return (
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask(dict(objective.space)).params
    )


def build(objective: KerasObjective, **params: object) -> keras.Model:
    keras.utils.set_random_seed(0)
    return objective.build(objective.first[0] | params, objective._data)


@pytest.fixture(scope="module")
def network(objective) -> keras.Model:
    """Return the network of the first configuration; no test changes it."""
    return build(objective)


@pytest.fixture(scope="module")
def copy(network) -> keras.Model:
    """Return the copy of the network that is trained; no test changes it."""
    return layers.accelerated(network, "float32")


def values(variables: list) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def test_space_has_the_five_parameters(objective):
    assert objective.space.keys() == SPACE
    assert all(size >= 1 for size in objective.space["batch_size"].choices)
    assert set(objective.space["optimizer"].choices) == {"sgd", "adam"}
    ranges = [objective.space[name] for name in ("learning_rate", "dropout", "weight_decay")]
    assert [type(found) for found in ranges] == [FloatDistribution] * 3
    assert [type(found) for found in objective.space.values()].count(CategoricalDistribution) == 2
    rate, dropout, decay = ranges
    assert rate.log
    assert 0 < rate.low < rate.high
    assert 0 <= dropout.low < dropout.high < 1
    assert 0 <= decay.low < decay.high


def test_first_configurations_lie_in_the_space(objective):
    assert objective.first
    study = optuna.create_study()
    for params in objective.first:
        study.enqueue_trial(params)
    # Optuna samples missing values and warns about values outside the space, which is an error here.
    assert [study.ask(dict(objective.space)).params for _ in objective.first] == list(objective.first)


@pytest.mark.parametrize("which", ["first", "sampled"])
def test_network_maps_raw_pixels_to_logits(objective, network, which):
    params = objective.first[0] if which == "first" else sampled(objective)
    model, data = network if which == "first" else build(objective, **params), objective._data
    model_check.check(model, data)
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {
        params["dropout"]
    }
    assert [keras.backend.standardize_dtype(tensor.dtype) for tensor in model.inputs] == ["uint8"]
    extremes = [np.zeros_like(data.x_valid[:1]), np.full_like(data.x_valid[:1], 255)]
    logits = keras.ops.convert_to_numpy(model(np.concatenate([data.x_valid[:3], *extremes])))
    assert (logits.shape, logits.dtype) == ((5, 10), np.float32)
    assert np.isfinite(logits).all()
    assert logits.min() < 0
    assert len(np.unique(logits, axis=0)) == 5


def test_accelerated_copy_computes_the_same_as_the_network(objective, network, copy):
    pixels = objective._data.x_valid[:4]
    found, expected = values([model(pixels, training=False) for model in (copy, network)])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_training_and_not_at_inference(objective, copy):
    """The networks are the copies that are trained; at inference they compute the same as the originals."""
    pixels = objective._data.x_valid[:4]
    without = layers.accelerated(build(objective, dropout=0.0), "float32")
    trained = [values([copy(pixels, training=True)])[0] for _ in range(2)]
    assert (trained[0] != trained[1]).mean() > 0.5
    trained = [values([without(pixels, training=True)])[0] for _ in range(2)]
    np.testing.assert_allclose(*trained, rtol=1e-4, atol=1e-4)

    forward = backend.current().forward(copy)
    first, second = (evaluation.raw_outputs(forward, pixels) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # The logits of an image do not depend on the other images of its batch.
    alone = evaluation.raw_outputs(forward, pixels[::-1])[::-1]
    np.testing.assert_allclose(alone, first, rtol=1e-4, atol=1e-4)


def test_each_channel_is_normalized_by_the_training_images(objective, network):
    data = objective._data
    (layer,) = (layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    channels = (0, 1, 2)
    scaled = data.x_train.astype(np.float64) / 255
    shape = (1, 1, 1, data.image_shape[-1])
    np.testing.assert_allclose(
        np.broadcast_to(layer.mean, shape).ravel(), scaled.mean(axis=channels), rtol=1e-5
    )
    np.testing.assert_allclose(
        np.broadcast_to(layer.variance, shape).ravel(), scaled.var(axis=channels), rtol=1e-4
    )
    normalized = keras.Model(network.input, layer.output)
    outputs = keras.ops.convert_to_numpy(normalized(data.x_train))
    np.testing.assert_allclose(outputs.mean(axis=channels), 0, atol=1e-3)
    np.testing.assert_allclose(outputs.std(axis=channels), 1, atol=1e-3)
    # The validation images have other statistics, so that their influence would have been visible.
    others = keras.ops.convert_to_numpy(normalized(data.x_valid))
    assert np.abs(others.mean(axis=channels)).min() > 0.02


class Trained:
    """A run of one epoch, and all images that the model got in it."""

    def __init__(self, objective: KerasObjective) -> None:
        self.run = LocalRun(total_epochs=1, seed=1, metric="val_accuracy")
        self.stock: list[keras.Model] = []
        self.trained_on: list[np.ndarray] = []
        self.evaluated_on: list[np.ndarray] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objective, "build", self._kept(objective.build))
            for name, seen in (("training_steps", self.trained_on), ("forward", self.evaluated_on)):
                patch.setattr(backend.current(), name, self._seen(getattr(backend.current(), name), seen))
            objective.train(objective.first[0] | {"batch_size": BATCH}, self.run)

    def _kept(self, make):
        return lambda *args: self.stock.append(make(*args)) or self.stock[-1]

    def _seen(self, make, seen):
        def makes(*args):
            function = make(*args)

            def call(given):
                images = given[0] if isinstance(given, tuple) else given
                seen.extend(images.reshape(-1, *images.shape[-3:]).copy())
                return function(given)

            return call

        return makes


@pytest.fixture(scope="module")
def trained(objective) -> Trained:
    return Trained(objective)


def test_epoch_trains_all_images_and_variables(trained):
    (metrics,) = trained.run.history
    assert metrics.keys() == METRICS
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["val_accuracy"] <= 1
    assert metrics["learning_rate"] == pytest.approx(0, abs=1e-9)
    assert trained.run.ticks[-1] == (3, 3, 48)
    (line,) = trained.run.messages
    assert line.startswith("epoch 1/1: loss=")
    state = trained.run.checkpoint.state
    (stock,) = trained.stock
    for index, variable in enumerate(stock.variables):
        # The stock network kept the weights with which its copy began.
        before, after = values([variable])[0], state[f"model/{index:04d}"]
        # With PyTorch, Dropout draws from a generator of PyTorch's.
        if "seed_generator" in variable.path and backend.name() == "torch":
            continue
        assert (before != after).any(), f"{variable.path} did not change"


def test_only_training_images_are_augmented(objective, trained):
    data = objective._data
    assert len(trained.trained_on) == 48
    originals = {image.tobytes() for image in data.x_train}
    unchanged = sum(image.tobytes() in originals for image in trained.trained_on)
    if objective.dataset == "digits":
        assert unchanged == 48
    else:
        assert unchanged < 24
    np.testing.assert_array_equal(trained.evaluated_on, data.x_valid)


def changed(objective: KerasObjective, image: np.ndarray, count: int, monkeypatch) -> np.ndarray:
    """Return the augmented training images (count, height, width, channels) if all of them are this one."""
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        backend.current(), "training_steps", lambda *_: lambda given: seen.append(given[0]) or {}
    )
    data = replace(
        objective._data, x_train=np.repeat(image[None], count, 0), y_train=np.zeros(count, np.int64)
    )
    run = LocalRun(total_epochs=1, device=Device())
    advance = batches.advancing(None, data, batches.Variation(augmentation=objective.augmentation), run, 64)
    advance(np.arange(count)[None], [np.random.default_rng(0)])
    return seen[0][0]


@pytest.mark.parametrize("objective", CIFAR, indirect=True)
def test_photographs_are_flipped_shifted_and_rotated(objective, monkeypatch):
    """Measured by a red mark left of the centre and a green one right of it."""
    ground = objective.augmentation.fill
    image = np.full((32, 32, 3), ground, np.uint8)
    image[14:18, 6:10, 0] = image[14:18, 22:26, 1] = 255
    marks = changed(objective, image, 256, monkeypatch)[..., :2].astype(float) - ground
    mass = marks.sum(axis=(1, 2))
    # The position of a mark that is cut out is unknown.
    marks = marks[(mass > 0.97 * 16 * (255 - ground)).all(axis=1)]
    assert len(marks) > 64
    pixels = np.arange(32) - 15.5
    mass = marks.sum(axis=(1, 2))
    right, down = (np.einsum(f"nyxc,{axis}->nc", marks, pixels) / mass for axis in "xy")

    mirrored = right[:, 0] > right[:, 1]
    assert 0.35 < mirrored.mean() < 0.65
    for moved in (right.mean(axis=1), down.mean(axis=1)):
        assert -8 < moved.min() < -2.5
        assert 2.5 < moved.max() < 8
    sign = np.where(mirrored, -1, 1)
    degrees = np.rad2deg(np.arctan2(sign * (down[:, 1] - down[:, 0]), sign * (right[:, 1] - right[:, 0])))
    assert -20 < degrees.min() < -2
    assert 2 < degrees.max() < 20


@pytest.mark.parametrize("objective", DIGITS, indirect=True)
def test_digits_are_only_shifted(objective, monkeypatch):
    """A mirrored or strongly rotated digit would be another digit or none."""
    most = 0 if objective.dataset == "digits" else 4
    height, width, _ = objective._data.image_shape
    image = np.random.default_rng(0).integers(1, 256, (height, width, 1), dtype=np.uint8)
    padded = np.pad(image, ((most, most), (most, most), (0, 0)))
    moved = {
        padded[down : down + height, right : right + width].tobytes()
        for down in range(2 * most + 1)
        for right in range(2 * most + 1)
    }
    found = {one.tobytes() for one in changed(objective, image, 64, monkeypatch)}
    assert found <= moved
    assert len(found) > 8 * (most > 0)


def rate(step: int) -> float:
    """Return the rate of a step, counted from 0: a line up to the peak, then half a cosine down to zero."""
    warmup = STEPS // 10
    if step < warmup:
        return PEAK * step / warmup
    return PEAK * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup))) / 2


def test_optimizer_is_that_of_the_base_class(objective):
    """It is therefore enough to test one objective."""
    assert type(objective).optimizer is KerasObjective.optimizer


@one_objective
@each_optimizer
def test_learning_rate_warms_up_to_its_peak_and_falls_to_zero(objective, kind):
    made = objective.optimizer(objective.first[0] | {"optimizer": kind, "learning_rate": PEAK}, STEPS)
    found = []
    for step in range(STEPS + 1):
        made.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(made.learning_rate)))
    assert found == pytest.approx([rate(step) for step in range(STEPS + 1)], abs=1e-7)
    assert found[0] < found[1] < found[2] < found[3] == pytest.approx(PEAK)
    assert np.argmax(found) == 3
    assert found[-1] == pytest.approx(0, abs=1e-9)


@one_objective
def test_run_of_one_step_has_no_warm_up(objective):
    made = objective.optimizer({"optimizer": "sgd", "learning_rate": PEAK}, 1)
    assert float(keras.ops.convert_to_numpy(made.learning_rate)) == pytest.approx(PEAK)


@one_objective
@each_optimizer
def test_optimizer_takes_the_steps_of_keras(objective, kind):
    """The loss is a quadratic bowl; SGD has Nesterov momentum."""
    tuned = {"optimizer": kind, "learning_rate": PEAK, "weight_decay": 0.0}
    mine = objective.optimizer(objective.first[0] | tuned, STEPS)
    theirs = (
        keras.optimizers.SGD(PEAK, momentum=0.9, nesterov=True)
        if kind == "sgd"
        else keras.optimizers.Adam(PEAK)
    )
    start, steep = np.array([1.0, -2.0, 0.5], np.float32), np.array([0.1, 1.0, 3.0], np.float32)
    weights = [keras.Variable(start, name="kernel") for _ in range(2)]
    for step in range(STEPS):
        theirs.learning_rate = rate(step)
        for optimizer, weight in zip((mine, theirs), weights, strict=True):
            optimizer.apply(
                [keras.ops.convert_to_tensor(weight) * keras.ops.convert_to_tensor(steep)], [weight]
            )
        found, expected = values(weights)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=f"step {step}")
    assert (np.abs(found) < np.abs(start)).all()


@each_name
def test_weight_decay_applies_to_kernels_only(objective, network):
    decay = 0.2
    variables = layers.accelerated(network, "float32").trainable_variables
    for kind in ("sgd", "adam"):
        tuned = {"optimizer": kind, "learning_rate": PEAK, "weight_decay": decay}
        for variable in variables:
            # A bias begins at zero, where decay would be invisible.
            variable.assign(variable + 1.0)
        before = values(variables)
        optimizer = objective.optimizer(objective.first[0] | tuned, STEPS)
        optimizer.build(variables)
        optimizer.iterations.assign(STEPS // 10)
        optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
        assert {array.ndim > 1 for array in before} == {True, False}
        for variable, old, new in zip(variables, before, values(variables), strict=True):
            kept = 1 - PEAK * decay if old.ndim > 1 else 1.0
            np.testing.assert_allclose(
                new, kept * old, rtol=1e-5, atol=1e-7, err_msg=f"{kind}: {variable.path}"
            )
