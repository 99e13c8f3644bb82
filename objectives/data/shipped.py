"""The data sets that the project knows by name; help texts list them, so this module imports no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set that the project knows by name."""

    name: str
    title: str
    classes: tuple[str, ...]
    download: str | None = None
    """Module of `keras.datasets` that downloads it; None: bundled."""
    origin: str = ""
    """Address from which Keras downloads it."""
    cached: str = ""
    """Its name in Keras' cache of downloads."""


_DIGIT_NAMES = tuple("0123456789")

SHIPPED: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(name="digits", title="1,797 digits of 8×8, bundled with scikit-learn", classes=_DIGIT_NAMES),
        Dataset(
            name="mnist",
            title="MNIST: digits of 28×28",
            classes=_DIGIT_NAMES,
            download="mnist",
            origin="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
            cached="mnist.npz",
        ),
        Dataset(
            name="cifar10",
            title="CIFAR-10: photographs of 32×32 in colour",
            classes=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
            download="cifar10",
            origin="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            cached="cifar-10-batches-py-target",
        ),
    )
}
