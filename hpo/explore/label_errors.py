"""Possible label errors: training images much closer to the mean of another class than to that of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Images, Labels

MOST_SHOWN = 16


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
    """Mean training images (classes, height, width, channels); zero for a class without images."""
    accuracy: float
    """Accuracy of classifying the training images by the nearest mean."""
    suspects: Sequence[Suspect]
    """Images with the largest difference between the distances to their own and the nearest mean."""


def class_means(x: Images, y: Labels, classes: int) -> ClassMeans:
    """Compare each image with the mean of each class by its distance in pixels."""
    flat = x.reshape(len(x), -1)
    means = np.zeros((classes, flat.shape[1]), dtype=np.float32)
    for label in range(classes):
        if (y == label).any():
            means[label] = flat[y == label].mean(axis=0, dtype=np.float32)
    absent = np.bincount(y, minlength=classes) == 0
    # |x - m|^2 = |x|^2 - 2 x.m + |m|^2; the first is the same for all classes.
    distances = np.concatenate(
        [(means**2).sum(axis=1) - 2 * (part.astype(np.float32) @ means.T) for part in _parts(flat)]
    )
    distances[:, absent] = np.inf
    nearest = distances.argmin(axis=1)
    margin = distances[np.arange(len(y)), y] - distances.min(axis=1)
    worst = np.argsort(-margin, kind="stable")[:MOST_SHOWN]
    return ClassMeans(
        means.reshape(classes, *x.shape[1:]),
        float((nearest == y).mean()),
        [Suspect(int(i), int(y[i]), int(nearest[i])) for i in worst if margin[i] > 0],
    )


def _parts(flat: NDArray[np.uint8], size: int = 8192) -> list[NDArray[np.uint8]]:
    return [flat[start : start + size] for start in range(0, len(flat), size)]
