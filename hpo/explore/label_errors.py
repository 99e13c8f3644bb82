"""Possible label errors: training images much closer to the mean of another class than to that of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Labels

MOST_SHOWN = 16
LARGEST_SIDE = 32
"""Height and width from which images are reduced by a whole factor: means of classes show no details."""
_BLOCK_VALUES = 1 << 24
"""Number of pixels that are compared at a time: 64 MiB of memory."""


@dataclass(frozen=True)
class Suspect:
    """A training image whose label may be wrong."""

    index: int
    label: int
    nearest: int
    """Class with the nearest mean image."""


@dataclass(frozen=True)
class ClassMeans:
    """Mean image of each class and its distances to the images."""

    means: NDArray[np.float32]
    """Mean training images (classes, height, width, channels), reduced; zero for a class without images."""
    accuracy: float
    """Accuracy of classifying the training images by the nearest mean."""
    suspects: Sequence[Suspect]
    """Images with the largest difference between the distances to their own and the nearest mean."""


def class_means(x: NDArray[Any], y: Labels, classes: int, step: int = 1) -> ClassMeans:
    """Compare each image with the mean of each class by its distance in reduced pixels.

    `step` is the distance of these images in the data set; indices of suspects are those of the data set.
    """
    shape = _reduced(x[:1]).shape[1:]
    sums, counts = np.zeros((classes, math.prod(shape))), np.bincount(y, minlength=classes)
    for part, flat in _parts(x):
        members = (y[part][None, :] == np.arange(classes)[:, None]).astype(np.float32)
        sums += members @ flat
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    # |x - m|^2 = |x|^2 - 2 x.m + |m|^2; the first is the same for all classes.
    distances = np.concatenate([(means**2).sum(axis=1) - 2 * (flat @ means.T) for _, flat in _parts(x)])
    distances[:, counts == 0] = np.inf
    nearest = distances.argmin(axis=1)
    margin = distances[np.arange(len(y)), y] - distances.min(axis=1)
    worst = np.argsort(-margin, kind="stable")[:MOST_SHOWN]
    return ClassMeans(
        means.reshape(classes, *shape),
        float((nearest == y).mean()),
        [Suspect(int(i) * step, int(y[i]), int(nearest[i])) for i in worst if margin[i] > 0],
    )


def _parts(x: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows and their reduced images as vectors."""
    size = max(1, _BLOCK_VALUES // math.prod(x.shape[1:]))
    for start in range(0, len(x), size):
        part = slice(start, min(start + size, len(x)))
        reduced = _reduced(x[part])
        yield part, reduced.reshape(len(reduced), -1)


def _reduced(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return means over square blocks, of one pixel where images are small, without incomplete blocks at the edges."""
    count, height, width, channels = x.shape
    side = max(1, min(height, width) // LARGEST_SIDE)
    rows, columns = height // side, width // side
    blocks = x[:, : rows * side, : columns * side].reshape(count, rows, side, columns, side, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means
