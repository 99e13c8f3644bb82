"""The data sets that the project knows by name; help texts list them, so this module imports no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A data set that the project knows by name."""

    name: str
    title: str
    classes: tuple[str, ...]
    download: str | None
    """Module of `keras.datasets` that downloads it; None: bundled."""
    origin: str = ""
    """Address from which Keras downloads it."""
    cached: str = ""
    """Its name in Keras' cache of downloads."""


_DIGIT_NAMES = tuple("0123456789")

SHIPPED: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", "1,797 digits of 8×8, bundled with scikit-learn", _DIGIT_NAMES, None),
        Dataset(
            "mnist",
            "MNIST: digits of 28×28",
            _DIGIT_NAMES,
            "mnist",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
            "mnist.npz",
        ),
        Dataset(
            "cifar10",
            "CIFAR-10: photographs of 32×32 in colour",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            "cifar10",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "cifar-10-batches-py-target",
        ),
    )
}
