"""Whitening, Dirac kernels, schedules, learning rates of their own and averages do as documented, alone."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from hpo.errors import ObjectiveBrokenError
from objectives.data.splits import Data
from objectives.data.statistics import input_statistics
from objectives.recipes import declarations
from objectives.recipes.averaging import LOOKAHEAD_RATE, LOOKAHEAD_STEPS, averaged, averages
from objectives.recipes.dirac import Dirac
from objectives.recipes.rates import with_factors
from objectives.recipes.schedules import ConstantDecay, made
from objectives.recipes.whitening import whitened, whitening_filters
from objectives.training import layers
from objectives.training.loop import optimizer as loop_optimizer


def numpy(tensor) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(tensor))


def pictures(dtype=np.uint8) -> Data:
    """Return smooth images, whose neighbouring pixels and channels are alike."""
    rng = np.random.default_rng(0)
    grey = rng.normal(size=(300, 10, 8, 1)).cumsum(axis=1).cumsum(axis=2)
    images = np.clip(120 + 8 * grey + rng.normal(0, 9, (300, 10, 8, 2)), 0, 255).astype(dtype)
    mean, std = input_statistics(images)
    labels = np.arange(300) % 2
    return Data(
        x_train=images,
        y_train=labels,
        x_valid=images[:0],
        y_valid=labels[:0],
        x_test=None,
        y_test=None,
        classes=("a", "b"),
        mean=mean,
        std=std,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_whitened_patches_of_training_images_are_uncorrelated(dtype):
    data, size = pictures(dtype), 2
    filters = whitening_filters(data, size)
    assert filters.shape == (2, 2, 2, 16)
    np.testing.assert_array_equal(filters[..., 8:], -filters[..., :8])
    scale = 255 if dtype == np.uint8 else 1
    normalized = (data.x_train / scale - np.array(data.mean)) / np.array(data.std)
    outputs = numpy(keras.ops.conv(normalized.astype(np.float32), filters[..., :8], padding="valid"))
    moments = outputs.reshape(-1, 8).T @ outputs.reshape(-1, 8) / outputs[..., 0].size
    # The last components have almost no variance: they are not amplified.
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-3)
    np.testing.assert_allclose(np.diag(moments)[:4], 1, atol=0.05)


def test_filters_follow_from_the_images_and_not_from_their_number(monkeypatch):
    data = pictures()
    filters = whitening_filters(data, 3)
    np.testing.assert_array_equal(whitening_filters(data, 3), filters)
    monkeypatch.setattr("objectives.recipes.whitening._BLOCK", 500)
    np.testing.assert_allclose(whitening_filters(data, 3), filters, atol=1e-2)


@pytest.mark.parametrize("size", [0, 9])
def test_patches_larger_than_the_images_are_refused(size):
    with pytest.raises(ObjectiveBrokenError, match=r"and the images 10×8: use a size from 1 to 8"):
        whitening_filters(pictures(), size)


@pytest.mark.parametrize(("train_bias", "trained"), [(True, 1), (False, 0)])
def test_whitening_layer_is_a_stock_layer_that_trains_its_bias_at_most(train_bias, trained):
    inputs = keras.Input((10, 8, 2))
    model = keras.Model(inputs, whitened(inputs, pictures(), 2, train_bias=train_bias))
    assert type(model.get_layer("whitening")) is keras.layers.Conv2D
    copy = layers.accelerated(model, "float32")
    assert [len(one.trainable_variables) for one in (model, copy)] == [trained, trained]
    np.testing.assert_array_equal(numpy(copy.get_layer("whitening").kernel), whitening_filters(pictures(), 2))


def test_variable_that_a_model_freezes_stays_frozen_in_the_trained_copy():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="one"), keras.layers.Dense(2)])
    model.get_layer("one").kernel.trainable = False
    assert [one.path for one in layers.accelerated(model, "float32").trainable_variables] == [
        one.path for one in model.trainable_variables
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs", "size"), [(3, 3, 3), (3, 8, 3), (4, 2, 3), (2, 4, 2), (2, 2, 1)]
)
def test_dirac_convolution_passes_its_first_channels_through(inputs, outputs, size):
    images = np.random.default_rng(0).normal(size=(2, 6, 5, inputs)).astype(np.float32)
    layer = keras.layers.Conv2D(outputs, size, padding="same", use_bias=False, kernel_initializer=Dirac())
    found, through = numpy(layer(images)), min(inputs, outputs)
    np.testing.assert_allclose(found[..., :through], images[..., :through], atol=1e-6)
    if outputs > inputs:
        rest = numpy(layer.kernel)[..., inputs:]
        assert 0.4 < rest.std() / np.sqrt(2 / (size * size * inputs)) < 1.6
    assert Dirac.from_config(Dirac("zeros").get_config()).get_config() == Dirac("zeros").get_config()


def test_dirac_refuses_kernels_that_are_no_convolutions():
    with pytest.raises(ValueError, match=r"the shape \(4, 4\): use another initializer"):
        keras.layers.Dense(4, kernel_initializer=Dirac())(np.zeros((1, 4), np.float32))


def test_constant_schedule_warms_up_stays_and_decays_in_the_last_fifth():
    schedule = made("constant-decay", 0.5, 50)
    rates = [float(schedule(step)) for step in range(51)]
    expected = [0.5 * min(step / 5, 1, (50 - step) / 10) for step in range(51)]
    assert rates == pytest.approx(expected)
    assert ConstantDecay.from_config(schedule.get_config()).get_config() == schedule.get_config()
    # One step trains with the peak.
    assert float(made("constant-decay", 0.5, 1)(0)) == 0.5
    assert [float(made("constant-decay", 0.5, 2)(step)) for step in range(3)] == [0, 0.5, 0]


class Variables:
    """A kernel, a bias and the parameters of a normalization, and gradients that are the same in each step."""

    def __init__(self) -> None:
        self.start = {
            "kernel": np.ones((3, 2), np.float32),
            "bias": np.ones(2, np.float32),
            "gamma": np.full(2, 2.0, np.float32),
            "beta": np.zeros(2, np.float32),
        }
        self.all = [keras.Variable(value, name=name) for name, value in self.start.items()]

    def apply(self, optimizer, gradient: float = 1.0) -> None:
        optimizer.apply([gradient * keras.ops.ones(one.shape) for one in self.all], self.all)

    def moved(self) -> dict[str, float]:
        """Return how far each variable has moved."""
        return {one.name: float((self.start[one.name] - numpy(one)).mean()) for one in self.all}


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_factors_multiply_the_learning_rate_of_variables_by_name(kind):
    params = {"optimizer": kind, "learning_rate": 0.01, "weight_decay": 0.5}
    plain, factored = (loop_optimizer(params, 10) for _ in range(2))
    factored = with_factors(factored, {"bias": 8.0, "beta": 3.0, "gamma": 1.0})
    moved = []
    for made_one in (plain, factored):
        variables = Variables()
        for _ in range(4):
            variables.apply(made_one)
        moved.append(variables.moved())
    assert len(plain.variables) == len(factored.variables)
    before, after = moved
    assert before["bias"] == pytest.approx(before["beta"], rel=1e-4)
    for name, factor in {"kernel": 1, "gamma": 1, "bias": 8, "beta": 3}.items():
        assert after[name] == pytest.approx(factor * before[name], rel=1e-3), name
    assert before["kernel"] > before["bias"]


def test_no_factor_leaves_the_optimizer_as_it_is():
    plain = keras.optimizers.SGD(0.1)
    assert type(with_factors(plain, {})) is type(with_factors(plain, {"bias": 1})) is keras.optimizers.SGD
    assert averages(averaged(plain, None)) == []


def stepped(kind, steps: int, optimizer=None):
    """Return the weights after each step with their average, on a gradient of alternating signs."""
    variables, found = Variables(), []
    optimizer = averaged(optimizer or keras.optimizers.SGD(0.1), kind)
    for step in range(steps):
        variables.apply(optimizer, 1.0 if step % 3 else -2.0)
        (variable, average), *_ = averages(optimizer)
        found.append((float(numpy(variable)[0, 0]), float(numpy(average)[0, 0])))
    return found


def test_exponential_average_follows_its_decay_and_soon_forgets_the_initial_weights():
    found = stepped(0.6, 12)
    expected = None
    for step, (weight, average) in enumerate(found):
        decay = min(0.6, (1 + step) / (10 + step)) if step else 0.0
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
        assert average == pytest.approx(expected, rel=1e-5)
    assert [weight for weight, _ in found] == pytest.approx([weight for weight, _ in stepped(0.9, 12)])


def test_lookahead_lets_the_weights_go_on_from_the_slow_ones():
    found, weight, slow = stepped("lookahead", 12), 1.0, None
    for step, pair in enumerate(found):
        weight -= 0.1 * (1.0 if step % 3 else -2.0)
        slow = weight if slow is None else slow
        if (step + 1) % LOOKAHEAD_STEPS == 0:
            slow += LOOKAHEAD_RATE * (weight - slow)
            weight = slow
        assert pair == pytest.approx((weight, slow), rel=1e-5)


def test_optimizer_with_variables_is_refused():
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([keras.Variable(np.ones(2, np.float32))])
    with pytest.raises(ObjectiveBrokenError, match="that has no variables yet: return one from optimizer"):
        averaged(optimizer, 0.9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"weight_averaging": 1.0},
            "weight_averaging must be the decay of an exponential average above 0 and",
        ),
        ({"weight_averaging": True}, "not True"),
        ({"weight_averaging": "ema"}, "or 'lookahead', or None, not 'ema'"),
        (
            {"learning_rate_factors": 64},
            "learning_rate_factors must be a dict such as {'beta': 16.0}, not 64",
        ),
        ({"learning_rate_factors": {"kernel": 2}}, "names 'kernel': use 'bias', 'beta', 'gamma'"),
        (
            {"learning_rate_factors": {"bias": 0}},
            "the factor of 'bias' in learning_rate_factors must be a number",
        ),
        ({"schedule": "linear"}, "schedule must be 'cosine' or 'constant-decay', not 'linear'"),
        ({"mixing": 0.2}, "mixing must be Mixing(…) or None, not 0.2"),
        ({"augmentation": "flip"}, "augmentation must be Augmentation(…) or None, not 'flip'"),
    ],
)
def test_wrong_option_is_refused_in_one_line(given, message):
    options = {"augmentation": None, "mixing": None, "loss": None, "weight_averaging": None}
    options |= {"learning_rate_factors": {}, "schedule": "cosine"}
    assert declarations.problem(SimpleNamespace(**options)) is None
    assert message in declarations.problem(SimpleNamespace(**(options | given)))
