"""Models of one input, of several, of text and of tokens."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from objectives import backend
from tests.unit.objectives.training.tabular import (
    DEVICE,
    PAIRS,
    PARAMS,
    RNG,
    TARGETS,
    Tabular,
    TwoInputs,
    made,
    trained,
)


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
