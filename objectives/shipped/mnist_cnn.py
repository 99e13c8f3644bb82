"""`mnist-cnn`: a plain CNN on MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.augment import Augmentation
from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras


class MnistCNN(KerasObjective):
    """A plain CNN on MNIST."""

    dataset = "mnist"
    epochs = 8
    augmentation = Augmentation(shift=2)
    space = {
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 3e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    }
    first = [
        {"batch_size": 128, "optimizer": "adam", "learning_rate": 4e-3, "dropout": 0.2, "weight_decay": 1e-2},
    ]

    widths: ClassVar[tuple[int, ...]] = (32, 64)
    """Channels of each stage; each halves the image."""
    depth: ClassVar[int] = 1
    """Convolutions in each stage."""
    dense: ClassVar[int] = 128
    """Units of the hidden layer before the output."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import cnn

        return cnn(data, widths=self.widths, depth=self.depth, dense=self.dense, dropout=params["dropout"])
