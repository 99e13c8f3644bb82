"""Models that end in probabilities train on logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from hpo.errors import ObjectiveBrokenError
from objectives.training.logits import as_logits, probabilities_of


def nested(*inner: Any) -> Any:
    return keras.Sequential([keras.Input((3,)), *inner])


ENDS: dict[str, Callable[[Any], Any]] = {
    "activation": lambda x: layers.Dense(4, activation="softmax")(x),
    "sigmoid": lambda x: layers.Dense(4, activation="sigmoid")(x),
    "layer as an activation": lambda x: layers.Dense(4, activation=layers.Softmax())(x),
    "layer": lambda x: layers.Softmax()(layers.Dense(4)(x)),
    "activation layer": lambda x: layers.Activation("softmax", dtype="float32")(layers.Dense(4)(x)),
    "operation": lambda x: ops.softmax(layers.Dense(4)(x)),
    "function": lambda x: keras.activations.sigmoid(layers.Dense(4)(x)),
    "type": lambda x: layers.Activation("linear", dtype="float32")(layers.Softmax()(layers.Dense(4)(x))),
    "shape": lambda x: layers.Flatten()(layers.Dense(4, "softmax")(x)),
    "nested activation": lambda x: nested(layers.Dense(4, "softmax"))(x),
    "nested layer": lambda x: nested(layers.Dense(4), nested2(layers.Softmax()))(x),
}


def nested2(*inner: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), *inner])


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_probabilities_at_the_end_become_logits(end: str, sequential: bool) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, ENDS[end](inputs))
    if sequential:
        model = keras.Sequential([keras.Input((3,)), model])
    pixels = np.random.default_rng(0).normal(size=(5, 3))
    kind = "sigmoid" if end in ("sigmoid", "function") else "softmax"
    probabilities = ops.convert_to_numpy(model(pixels))
    assert probabilities_of(model) == kind
    np.testing.assert_array_equal(ops.convert_to_numpy(model(pixels)), probabilities)
    logits, taken_off = as_logits(model)
    assert taken_off == kind
    assert probabilities_of(logits) is None
    found = ops.convert_to_numpy(getattr(ops, kind)(logits(pixels)))
    np.testing.assert_allclose(found, probabilities, atol=1e-6)
    assert len(logits.weights) == len(model.weights)


@pytest.mark.parametrize("end", [layers.Dense(4), layers.Dense(4, "relu"), layers.Dense(4, "log_softmax")])
def test_model_without_probabilities_is_left_as_it_is(end: Any) -> None:
    model = keras.Sequential([keras.Input((3,)), end])
    assert as_logits(model) == (model, None)


def twice(layer: Any, x: Any) -> Any:
    return layer(layer(x))


@pytest.mark.parametrize(
    "end",
    [
        lambda x: twice(layers.Dense(3, "softmax"), x),
        lambda x: layers.Flatten()(twice(layers.Dense(3, "softmax"), x)),
        lambda x: twice(nested(layers.Dense(3, "softmax")), x),
    ],
)
def test_activation_of_a_layer_used_more_than_once_is_refused_and_kept(end: Callable[[Any], Any]) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, end(inputs))
    pixels = np.random.default_rng(0).normal(size=(5, 3))
    before = ops.convert_to_numpy(model(pixels))
    with pytest.raises(ObjectiveBrokenError, match="which it uses more than once"):
        as_logits(model)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(pixels)), before)
