"""`cifar-resnet`: a residual network on CIFAR-10, shallow and wide, which learns most in a short time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.augment import CIFAR10
from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras


class CifarResNet(KerasObjective):
    """A shallow and wide residual network on CIFAR-10."""

    dataset = "cifar10"
    epochs = 10
    augmentation = CIFAR10
    label_smoothing = 0.1
    space = {
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        # Not more: a strong decay looks best after a few epochs, and is in the way of training for many.
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),
    }
    first = [
        {"batch_size": 128, "optimizer": "sgd", "learning_rate": 2e-1, "dropout": 0.1, "weight_decay": 1e-3},
    ]

    widths: ClassVar[tuple[int, ...]] = (64, 128, 256)
    """Channels of each stage; each halves the image."""
    depths: ClassVar[tuple[int, ...]] = (1, 1, 1)
    """Residual blocks in each stage."""
    stem: ClassVar[int] = 32
    """Channels of the convolution before the first stage."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import pooled_resnet

        return pooled_resnet(
            data, widths=self.widths, depths=self.depths, stem=self.stem, dropout=params["dropout"]
        )
