"""Statistics of a data set: class balance and pixel values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.data.arrays import Images, Labels

SKEWED = 1.5
"""Smallest ratio of the largest to the smallest class of an unbalanced data set."""

LEAST_EXPECTED = 5
"""Smallest expected count for the chi-square approximation (Cochran, 1954)."""


@dataclass(frozen=True)
class Balance:
    """Number of images of each class in each split, and tests of their balance."""

    counts: Mapping[str, Sequence[int]]
    """Counts by split, in the order of the labels."""
    p_uniform: float | None
    """P-value of a chi-square test for equal class frequencies in the training images; None with fewer than two
    classes or fewer than five expected images of each."""
    p_same: float | None
    """P-value of a chi-square test for equal class shares in all splits; None as above."""
    ratio: float | None
    """Ratio of the largest to the smallest class in the training images; None if a class has no images."""

    def describe_classes(self) -> str:
        """Return a sentence on the balance of the classes."""
        if self.ratio is None:
            return "A class has no training images, so it cannot be learned."
        size = f"The largest class has {self.ratio:.2f} times the training images of the smallest"
        if self.ratio >= SKEWED:
            return f"{size}: accuracy alone hides errors in small classes; check recall and F1 of each class."
        if self.p_uniform is None:
            return f"{size}; there are too few images or classes for a test of equal frequencies."
        chance = "no significant imbalance" if self.p_uniform > 0.05 else "a significant but small imbalance"
        return f"{size}: {chance} (chi-square test for equal classes, p = {self.p_uniform:.2g})."

    def describe_splits(self) -> str:
        """Return a sentence on the class shares of the splits."""
        if self.p_same is None:
            return "There are too few images or classes for a test of the class shares of the splits."
        found = (
            "The class shares of the splits do not differ significantly"
            if self.p_same > 0.01
            else "The class shares of the splits differ significantly"
        )
        return f"{found} (chi-square test, p = {self.p_same:.2g})."


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Pixel values (0 to 255) of one channel over all images of a split."""

    split: str
    channel: str
    mean: float
    std: float
    min: int
    max: int
    share_zero: float
    share_255: float
    histogram: Sequence[int]
    """Number of pixels of each of the 256 values."""


def balance(splits: Mapping[str, tuple[Images, Labels]], classes: int) -> Balance:
    """Count the images of each class and test their balance."""
    from scipy import stats

    counts = {name: np.bincount(y, minlength=classes) for name, (_, y) in splits.items()}
    training = counts["training"]
    table = np.array(list(counts.values()))
    present = table[:, table.sum(axis=0) > 0]
    expected = present.sum(axis=1, keepdims=True) * present.sum(axis=0) / max(1, present.sum())
    enough = classes > 1 and training.sum() / classes >= LEAST_EXPECTED
    comparable = present.shape[1] > 1 and bool((expected >= LEAST_EXPECTED).all())
    return Balance(
        {name: found.tolist() for name, found in counts.items()},
        float(stats.chisquare(training).pvalue) if enough else None,
        float(stats.chi2_contingency(present).pvalue) if comparable else None,
        float(training.max() / training.min()) if training.min() else None,
    )


def channels(split: str, x: Images) -> list[Channel]:
    """Return exact statistics of each channel, from counts of the 256 values."""
    values, found = np.arange(256), []
    names = {1: ("grey",), 3: ("red", "green", "blue")}.get(x.shape[-1])
    for index in range(x.shape[-1]):
        histogram = np.bincount(x[..., index].ravel(), minlength=256)
        shares = histogram / histogram.sum()
        mean = float(shares @ values)
        seen = np.flatnonzero(histogram)
        found.append(
            Channel(
                split=split,
                channel=names[index] if names else f"channel {index}",
                mean=mean,
                std=float(shares @ (values - mean) ** 2) ** 0.5,
                min=int(seen[0]),
                max=int(seen[-1]),
                share_zero=float(shares[0]),
                share_255=float(shares[255]),
                histogram=histogram.tolist(),
            )
        )
    return found
