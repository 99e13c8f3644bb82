"""Models whose outputs are probabilities that no layer of Keras names are recognized by the outputs alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from objectives.training.logits import as_logits, ends_in_weights, logarithms
from objectives.training.output_range import range_of

ROWS = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)


class Head(layers.Layer):
    """A layer of a user's own, which computes probabilities of its own weights."""

    def __init__(self, function: Callable[[Any], Any] = ops.softmax, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense, self.function = layers.Dense(4), function

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.function(self.dense(x))


class OwnDense(layers.Dense):  # type: ignore[misc]
    """A layer that scales its inputs."""

    def call(self, x: Any, training: Any = None) -> Any:
        return ops.softmax(super().call(x, training) / 3)


def normalized(x: Any) -> Any:
    return x / ops.sum(x, axis=-1, keepdims=True)


def dense(x: Any, activation: Any = None) -> Any:
    return layers.Dense(4, activation)(x)


SOFTMAX: dict[str, Callable[[Any], Any]] = {
    "Lambda": lambda x: layers.Lambda(ops.softmax)(dense(x)),
    "own layer": lambda x: Head()(x),
    "own Dense": lambda x: OwnDense(4)(x),
    "own activation": lambda x: dense(x, lambda z: ops.softmax(z / 2.0)),
    "mean of two heads": lambda x: layers.Average()([dense(x, "softmax"), dense(x, "softmax")]),
    "dropout after it": lambda x: layers.Dropout(0.2)(dense(x, "softmax")),
    "clipped": lambda x: ops.clip(dense(x, "softmax"), 1e-7, 1 - 1e-7),
    "smoothed": lambda x: 0.9 * dense(x, "softmax") + 0.025,
    "by hand": lambda x: normalized(ops.exp(dense(layers.LayerNormalization()(x)))),
    "nested": lambda x: keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.Lambda(ops.softmax)])(x),
    "shares": lambda x: normalized(dense(x, "softplus") + 1e-9),
}
SIGMOID: dict[str, Callable[[Any], Any]] = {
    "Lambda": lambda x: layers.Lambda(ops.sigmoid)(dense(x)),
    "own layer": lambda x: Head(ops.sigmoid)(x),
    "hard": lambda x: dense(x, "hard_sigmoid"),
    "of tanh": lambda x: (dense(x, "tanh") + 1) / 2,
    "scaled": lambda x: 0.98 * dense(x, "sigmoid") + 0.01,
}
OTHER: dict[str, tuple[Callable[[Any], Any], str | None]] = {
    "tanh": (lambda x: dense(x, "tanh"), "tanh"),
    "relu": (lambda x: dense(x, "relu"), "never negative"),
    "log_softmax": (lambda x: dense(x, "log_softmax"), "never positive"),
    "log_sigmoid": (lambda x: dense(x, "log_sigmoid"), "never positive"),
    "own layer of logits": (lambda x: Head(lambda z: z)(x), None),
    "batch normalization": (lambda x: layers.BatchNormalization()(dense(x)), None),
    "scaled logits": (lambda x: dense(x) * 0.01, None),
    "sum of two heads": (lambda x: layers.Add()([dense(x), dense(x)]), None),
    "weighted by a gate": (lambda x: dense(x) * dense(x, "sigmoid"), None),
    "cosines": (lambda x: layers.UnitNormalization()(dense(x)), "tanh"),
    "distances": (lambda x: -ops.square(dense(x)), "never positive"),
    "layer normalization": (lambda x: layers.LayerNormalization()(dense(x)), None),
    "one unit": (lambda x: layers.Lambda(lambda z: z)(layers.Dense(1)(x)), None),
    "begins with zero": (lambda x: layers.Lambda(lambda z: z)(layers.Dense(4, kernel_initializer="zeros")(x)), None),
    "begins with equal shares": (
        lambda x: 1.0 * layers.Dense(
            4, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.25)
        )(x),
        None,
    ),
}  # fmt: skip


def model_with(end: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 3, activation="relu")(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, end(layers.GlobalAveragePooling2D()(x)))


def short_model_with(end: Callable[[Any], Any], seed: int) -> keras.Model:
    """Return a model of rows, each of whose calls takes half the time."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    return keras.Model(inputs, end(layers.Dense(5, activation="relu")(inputs)))


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        *(("softmax", end) for end in SOFTMAX.values()),
        *(("sigmoid", end) for end in SIGMOID.values()),
    ],
    ids=[*SOFTMAX, *SIGMOID],
)
def test_probabilities_of_outputs_become_their_logits(kind: Any, end: Callable[[Any], Any]) -> None:
    model = model_with(end)
    probabilities = ops.convert_to_numpy(model(PIXELS))
    weights = model.get_weights()
    assert as_logits(model) == (model, None)
    assert not ends_in_weights(model)
    assert range_of(model, PIXELS) == kind
    assert all(map(np.array_equal, model.get_weights(), weights))
    raw = logarithms(model, kind)(PIXELS)
    assert raw.shape == (20, 4)
    found = ops.convert_to_numpy(getattr(ops, kind)(raw))
    np.testing.assert_allclose(found, probabilities, atol=2e-6)


@pytest.mark.parametrize("end", OTHER)
def test_other_outputs_are_not_called_probabilities(end: str) -> None:
    build, expected = OTHER[end]
    # Other initial weights must not lead to another conclusion.
    for seed in range(2):
        assert range_of(short_model_with(build, seed), ROWS) == expected


def test_layers_with_weights_end_in_logits() -> None:
    model = model_with(lambda x: keras.Sequential([keras.Input((5,)), layers.Dense(4)])(x))
    assert ends_in_weights(model)
    assert not ends_in_weights(model_with(lambda x: dense(x, "relu")))


def test_model_that_random_weights_break_is_not_judged() -> None:
    def broken(x: Any) -> Any:
        if not keras.backend.is_keras_tensor(x) and x.shape[0] is not None:
            raise ValueError
        return x

    model = model_with(lambda x: layers.Lambda(broken, output_shape=(4,))(dense(x)))
    weights = model.get_weights()
    assert range_of(model, PIXELS) is None
    assert all(map(np.array_equal, model.get_weights(), weights))
