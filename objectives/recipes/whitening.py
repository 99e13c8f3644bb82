"""A first convolution whose outputs are uncorrelated: fixed weights, computed from patches of the training images.

Its filters are the principal components of the patches, each scaled to unit variance, and their opposites, so that an
activation after it loses nothing. A network then need not learn its first layer. Page, "How to train your ResNet"
(2019), part 8; with fixed weights: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.data.splits import Data

SCALES = {"uint8": 1 / 255, "uint16": 1 / 65535}
"""Factors that scale pixels of whole numbers to 0..1; other pixels are not scaled."""
EPSILON = 5e-4
"""Variance that is added to that of each component, so that those of almost none are not amplified."""
MOST_PATCHES = 1 << 20
"""Largest number of patches from which the filters are computed: a tenth of a second."""
_BLOCK = 1 << 15
"""Number of patches that are in memory at a time."""


def whitened(x: Any, data: Data, size: int = 3, train_bias: bool = True) -> Any:
    """Return normalized pixels (n, height, width, channels) after the whitening convolution.

    `x` is the output of a `Normalization` by the mean and variance in `data`. The convolution has 2 × size² ×
    channels outputs. Its weights are never trained, its bias unless `train_bias` is false.

    Raises:
        ObjectiveBrokenError: the data are no images, or smaller than `size`.
    """
    filters = whitening_filters(data, size)
    layer = layers.Conv2D(filters.shape[-1], size, padding="same", use_bias=train_bias, name="whitening")
    found = layer(x)
    layer.kernel.assign(filters)
    layer.kernel.trainable = False
    return found


def whitening_filters(data: Data, size: int) -> NDArray[np.float32]:
    """Return filters (size, size, channels, 2 × size² × channels) from patches of the training images.

    They follow from the images alone: a sample of rows at equal distances, and the components in the order of their
    variances, each with the sign in which its largest weight is positive.

    Raises:
        ObjectiveBrokenError: the data are no images, or smaller than `size`.
    """
    height, width, channels = data.image_shape
    if not 1 <= size <= min(height, width):
        raise ObjectiveBrokenError(
            f"the patches of whitening have {size} pixels a side, and the images {height}×{width}: use a size from 1 to"
            f" {min(height, width)}"
        )
    covariance = _covariance(data, size)
    variances, components = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1]
    components = components[:, order] / np.sqrt(np.maximum(variances[order], 0) + EPSILON)
    largest = components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])]
    components = components * np.sign(largest)
    filters = np.concatenate([components, -components], axis=1)
    return filters.reshape(size, size, channels, -1).astype(np.float32)


def _covariance(data: Data, size: int) -> NDArray[np.float64]:
    """Return the second moments of the values of normalized patches (size² × channels, size² × channels)."""
    height, width, channels = data.image_shape
    of_image = (height - size + 1) * (width - size + 1)
    count = min(len(data.x_train), max(1, MOST_PATCHES // of_image))
    rows = np.unique(np.linspace(0, len(data.x_train) - 1, count).astype(np.intp))
    scale = SCALES.get(str(data.x_train.dtype), 1.0)
    mean, std = (np.array(values, np.float32) for values in (data.mean, data.std))
    total = np.zeros((size * size * channels,) * 2)
    for block in np.array_split(rows, max(1, len(rows) * of_image // _BLOCK)):
        images = (data.x_train[block].astype(np.float32) * np.float32(scale) - mean) / std
        windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
        patches = np.moveaxis(windows, 3, -1).reshape(-1, size * size * channels)
        total += patches.T @ patches
    return total / (len(rows) * of_image)
