"""The job of all contestants: a CNN on MNIST, written as a user of the service would write it.

`MnistPart` trains on 10,000 images and validates on 2,000, `MnistWhole` on 54,000 (shifted at random) and 6,000, of
the training images in `mnist.npz` of `HPO_DATA_DIR`. In smoke runs, BENCH_IMAGES limits their number and
BENCH_SYNTHETIC makes synthetic ones.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpo.settings import Settings
from objectives.augment import Augmentation
from objectives.base import DataOptions, Params
from objectives.data import datasets
from objectives.data.splits import Data
from objectives.data.stratification import stratified
from objectives.keras_objective import KerasObjective

if TYPE_CHECKING:
    import keras

PART = 12_000
KNOWN_GOOD = {"batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "dropout": 0.2}
"""Configuration for the peers, with Adam's default learning rate, which stays constant."""
KNOWN_GOOD_PEAK = KNOWN_GOOD | {"learning_rate": 3e-3}
"""Configuration for the service, whose learning rate rises to a peak and falls to zero."""


def fetch() -> None:
    """Download MNIST before any clock starts, and point every contestant to it."""
    folder = Settings.from_environment().data_dir
    datasets.fetch("mnist", folder)
    os.environ["HPO_DATA_DIR"] = str(folder)


def part() -> tuple[np.ndarray, np.ndarray]:
    """Return a fixed stratified part of MNIST's training images."""
    return _images(PART)


def whole() -> tuple[np.ndarray, np.ndarray]:
    """Return all of MNIST's training images, repeated BENCH_REPEAT times."""
    x, y = _images(None)
    times = int(os.environ.get("BENCH_REPEAT", "1"))
    return np.tile(x, (times, 1, 1, 1)), np.tile(y, times)


def _images(count: int | None) -> tuple[np.ndarray, np.ndarray]:
    count = int(os.environ["BENCH_IMAGES"]) if "BENCH_IMAGES" in os.environ else count
    if "BENCH_SYNTHETIC" in os.environ:
        return synthetic(count or 60_000)
    loaded = datasets.load("mnist", os.environ.get("HPO_DATA_DIR"), test=False)
    x, y = loaded.x_train, loaded.y_train
    chosen = stratified(y, count, np.random.default_rng(0)) if count else slice(None)
    return x[chosen], y[chosen]


def synthetic(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright stripe whose row is the class."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 10
    x = rng.integers(0, 60, (count, 28, 28, 1), dtype=np.uint8)
    for row in range(3):
        x[np.arange(count), 2 * y + row] += 150
    return x, y


class MnistPart(KerasObjective):
    """A plain CNN on 12,000 images of MNIST."""

    dataset = part
    epochs = 3
    space = {
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
    }

    validation_fraction: ClassVar[float] = 1 / 6

    def prepare(self, options: DataOptions, final: bool) -> None:
        super().prepare(replace(options, validation_fraction=self.validation_fraction), final)

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import cnn

        return cnn(data, widths=(32, 64), dense=128, dropout=params["dropout"])


class MnistWhole(MnistPart):
    """The same on all of MNIST, with the augmentation of `mnist-cnn`, without which it stays below 99.0 %."""

    dataset = whole
    augmentation = Augmentation(shift=2)
    validation_fraction = 0.1


class MnistWholeKnown(MnistWhole):
    """The same, beginning with a known good configuration."""

    first = [KNOWN_GOOD_PEAK]
