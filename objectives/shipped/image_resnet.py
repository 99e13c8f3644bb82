"""`image-resnet`: a residual network on images of your own, shallow and wide, which learns most in a short time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.base import Params
from objectives.data.splits import Data
from objectives.shipped.image_objective import ImageObjective, halvings, stages

if TYPE_CHECKING:
    import keras


class ImageResNet(ImageObjective):
    """A shallow and wide residual network on images of your own."""

    epochs = 10
    space = {
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        # Not more: a strong decay looks best after a few epochs, and is in the way of training for many.
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),
    }
    first = [
        {"batch_size": 32, "optimizer": "adam", "learning_rate": 2e-3, "dropout": 0.1, "weight_decay": 1e-3},
        {"batch_size": 128, "optimizer": "sgd", "learning_rate": 2e-1, "dropout": 0.1, "weight_decay": 1e-3},
    ]

    widths: ClassVar[tuple[int, ...]] = (64, 128, 256)
    """Channels of each stage; each halves the image. Small images have fewer stages."""
    depths: ClassVar[tuple[int, ...]] = (1, 1, 1)
    """Residual blocks in each stage."""
    stem: ClassVar[int] = 32
    """Channels of the convolutions before the first stage."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import pooled_resnet

        used = stages(data, len(self.widths))
        return pooled_resnet(
            data,
            widths=self.widths[:used],
            depths=self.depths[:used],
            stem=self.stem,
            dropout=params["dropout"],
            halvings=halvings(data),
        )
