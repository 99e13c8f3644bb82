"""A model that compiles in a second."""

from __future__ import annotations

import keras

from objectives.base import Params
from objectives.data.splits import Data
from objectives.shipped.digits_cnn import DigitsCNN


class Small(DigitsCNN):
    """A dense layer on digits."""

    def build(self, params: Params, data: Data) -> keras.Model:
        inputs = keras.Input(data.input_shape)
        scaled = keras.layers.Rescaling(1 / 16)(keras.layers.Flatten()(inputs))
        dropped = keras.layers.Dropout(params["dropout"])(scaled)
        return keras.Model(inputs, keras.layers.Dense(data.output_size)(dropped))
