"""The base class of the objectives for images of your own, which fit themselves to the images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hpo.errors import ObjectiveBrokenError
from objectives.augment import Augmentation
from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras

STEM_SIDE = 32
"""Least side in pixels to which the first convolutions reduce an image."""
MOST_HALVINGS = 3
"""Largest number of halvings before the stages of a network: images of 256 pixels and more are reduced to an eighth."""

GRADIENT_NORM = 1.0
"""Largest norm of the gradient of all weights with which SGD takes a step on a regression: squared errors grow without
bound where a cross-entropy does not, and one large step at the rates that are best for photos diverges. Pascanu et al.,
"On the difficulty of training recurrent neural networks" (2013)."""

_FILL_SAMPLES = 1_000
"""Number of images whose edges give the fill of grey ones."""
_WHOLE = {"uint8": 255, "uint16": 65535}


class ImageObjective(KerasObjective):
    """Trains on images of any size, grey or in colour, and for any task; `augmentation = None` chooses by the images.

    A subclass with a `dataset` of images is trained on these.
    """

    label_smoothing: ClassVar[float] = 0.1
    # A trial on few images would otherwise end after a few steps.
    least_images_per_epoch: ClassVar[int] = 500

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer of other objectives, which clips gradients if it is SGD on a regression."""
        made = super().optimizer(params, steps)
        if self._data is not None and self._data.task == "regression" and params.get("optimizer") == "sgd":
            made.global_clipnorm = GRADIENT_NORM
        return made

    def augment(self, data: Data) -> Augmentation | None:
        """Return `augmentation` if it is set, else the changes that leave such images as they could have been taken."""
        return self.augmentation if self.augmentation is not None else chosen_augmentation(data)


def chosen_augmentation(data: Data) -> Augmentation | None:
    """Return random changes to the images of a data set, in proportion to their size.

    Images in colour are taken for photos: mirrored, shifted, some of them rotated, and cut out as `CIFAR10` is. Grey
    ones may be digits or letters, which a mirror would change, so they are only shifted. None for regression, because
    the target may be a place or an angle in the image.
    """
    height, width, channels = images_of(data)
    side = min(height, width)
    if data.task == "regression":
        return None
    if channels < 3:
        return Augmentation(shift=side // 14, fill=_edge(data))
    return Augmentation(
        flip=True,
        shift=side // 8,
        rotation_degrees=8,
        rotated_share=0.25,
        cutout=side // 4,
        fill=_pixel(data, sum(data.mean) / len(data.mean)),
    )


def images_of(data: Data) -> tuple[int, int, int]:
    """Return height, width and channels of the images.

    Raises:
        ObjectiveBrokenError: the inputs are not images.
    """
    shape = getattr(data.x_train, "shape", ())
    if len(shape) != 4 or data.x_train.dtype.kind not in "uif":
        raise ObjectiveBrokenError(
            "the shipped image objectives train on images (n, height, width, channels), but these inputs are others:"
            " write an objective with a model for them"
        )
    return data.image_shape


def halvings(data: Data) -> int:
    """Return how often the first convolutions halve the images, so that the stages get 32 to 63 pixels a side."""
    height, width, _ = images_of(data)
    return min(MOST_HALVINGS, max(0, math.floor(math.log2(min(height, width) / STEM_SIDE))))


def stages(data: Data, most: int) -> int:
    """Return the number of stages, each of which halves the images, that leaves two pixels a side if there are four."""
    height, width, _ = images_of(data)
    side = min(height, width) >> halvings(data)
    return min(most, max(min(1, side - 1), math.floor(math.log2(side)) - 1))


def _edge(data: Data) -> float:
    """Return the most common level around the images: black around digits of light, white around ink on paper."""
    images = data.x_train[:: max(1, len(data.x_train) // _FILL_SAMPLES)]
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return _typed(data, float(np.median(np.concatenate([edge.ravel() for edge in edges]))))


def _pixel(data: Data, level: float) -> float:
    """Return a level of `data.mean` as a pixel."""
    return _typed(data, level * _WHOLE.get(str(data.x_train.dtype), 1))


def _typed(data: Data, pixel: float) -> float:
    return pixel if data.x_train.dtype.kind == "f" else round(pixel)
