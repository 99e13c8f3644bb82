"""`digits-cnn`: a small CNN on scikit-learn's bundled digits; a trial takes seconds, for first tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras


class DigitsCNN(KerasObjective):
    """A small CNN on 8×8 digits, bundled: trials of seconds."""

    dataset = "digits"
    epochs = 10
    space = {
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 3e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    }
    first = [
        {"batch_size": 32, "optimizer": "adam", "learning_rate": 5e-3, "dropout": 0.2, "weight_decay": 1e-4}
    ]

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import cnn

        return cnn(data, widths=(32, 64), dense=64, dropout=params["dropout"])
