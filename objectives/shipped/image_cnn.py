"""`image-cnn`: a plain CNN on images of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.base import Params
from objectives.data.splits import Data
from objectives.shipped.image_objective import ImageObjective, halvings, stages

if TYPE_CHECKING:
    import keras


class ImageCNN(ImageObjective):
    """A plain CNN on images of your own."""

    epochs = 15
    space = {
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 3e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    }
    first = [
        {"batch_size": 32, "optimizer": "adam", "learning_rate": 1e-3, "dropout": 0.2, "weight_decay": 1e-3},
        {"batch_size": 128, "optimizer": "adam", "learning_rate": 2e-3, "dropout": 0.2, "weight_decay": 1e-2},
    ]

    widths: ClassVar[tuple[int, ...]] = (32, 64, 128)
    """Channels of each stage; each halves the image. Small images have fewer stages."""
    depth: ClassVar[int] = 2
    """Convolutions in each stage."""
    dense: ClassVar[int] = 128
    """Units of the hidden layer before the output."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import cnn

        used = max(1, stages(data, len(self.widths)))
        return cnn(
            data,
            widths=self.widths[:used],
            depth=self.depth,
            dense=self.dense,
            dropout=params["dropout"],
            halvings=halvings(data),
        )
