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


_DIGIT_NAMES = tuple("0123456789")

SHIPPED: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", "1,797 digits of 8×8, bundled with scikit-learn", _DIGIT_NAMES, None),
        Dataset("mnist", "MNIST: digits of 28×28", _DIGIT_NAMES, "mnist"),
        Dataset(
            "cifar10",
            "CIFAR-10: photographs of 32×32 in colour",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            "cifar10",
        ),
    )
}
