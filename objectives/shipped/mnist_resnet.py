"""`mnist-resnet`: a small residual network on MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.augment import Augmentation
from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras


class MnistResNet(KerasObjective):
    """A small residual network on MNIST."""

    dataset = "mnist"
    epochs = 6
    augmentation = Augmentation(shift=2)
    space = {
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    }
    first = [
        {"batch_size": 128, "optimizer": "sgd", "learning_rate": 1e-1, "dropout": 0.2, "weight_decay": 1e-3},
    ]

    widths: ClassVar[tuple[int, ...]] = (16, 32, 64)
    """Channels of each stage; each after the first halves the image."""
    depth: ClassVar[int] = 1
    """Residual blocks in each stage."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import resnet

        return resnet(data, widths=self.widths, depth=self.depth, dropout=params["dropout"])
