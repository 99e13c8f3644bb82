"""Figures of a data set: how many images each class has, and what their pixels are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.data.arrays import Images, Labels

SKEWED = 1.5
"""Largest class over smallest from which a data set counts as unbalanced."""


LEAST_EXPECTED = 5
"""Images of a class below which the chi-square distribution is no fair approximation (Cochran, 1954)."""


@dataclass(frozen=True)
class Balance:
    """Images of each class in each split."""

    counts: Mapping[str, Sequence[int]]
    """By split, in the order of the labels."""
    p_uniform: float | None
    """Of a chi-square test that all classes are equally frequent in the training images; None where it cannot be
    tested: fewer than two classes, or fewer than five images of each to be expected."""
    p_same: float | None
    """Of a chi-square test that all splits have the same shares; None as above."""
    ratio: float | None
    """Largest class over smallest in the training images; None where a class has none."""

    def describe_classes(self) -> str:
        """What the figures mean."""
        if self.ratio is None:
            return "A class has no training image at all: accuracy on it cannot be learned."
        size = f"The largest class has {self.ratio:.2f} times the training images of the smallest"
        if self.ratio >= SKEWED:
            return (
                f"{size}: accuracy alone hides how small classes fare; look at recall and F1 of each class."
            )
        if self.p_uniform is None:
            return f"{size}; there are too few images or classes to tell whether that is chance."
        chance = (
            "no more unevenly than chance alone would have it"
            if self.p_uniform > 0.05
            else "more unevenly than chance would have it, which at this ratio matters little"
        )
        return f"{size}: {chance} (chi-square test against equal classes, p = {self.p_uniform:.2g})."

    def describe_splits(self) -> str:
        """Whether the splits are alike."""
        if self.p_same is None:
            return (
                "There are too few images or classes to compare the shares of the classes between the splits."
            )
        found = (
            "No difference was found between the splits' shares of the classes"
            if self.p_same > 0.01
            else "The shares of the classes differ between the splits"
        )
        return f"{found} (chi-square test, p = {self.p_same:.2g})."


@dataclass(frozen=True)
class Channel:
    """The pixels of one channel over all images of a split; values from 0 to 255."""

    split: str
    channel: str
    mean: float
    std: float
    least: int
    most: int
    share_zero: float
    share_full: float
    """Of pixels at 255."""
    histogram: Sequence[int]
    """Pixels of each of the 256 values."""


def balance(splits: Mapping[str, tuple[Images, Labels]], classes: int) -> Balance:
    """Count each class."""
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
    """Figures of each channel, exact: from counts of the 256 values."""
    values, found = np.arange(256), []
    names = {1: ("grey",), 3: ("red", "green", "blue")}.get(x.shape[-1])
    for index in range(x.shape[-1]):
        histogram = np.bincount(x[..., index].ravel(), minlength=256)
        shares = histogram / histogram.sum()
        mean = float(shares @ values)
        seen = np.flatnonzero(histogram)
        found.append(
            Channel(
                split,
                names[index] if names else f"channel {index}",
                mean,
                float(shares @ (values - mean) ** 2) ** 0.5,
                int(seen[0]),
                int(seen[-1]),
                float(shares[0]),
                float(shares[255]),
                histogram.tolist(),
            )
        )
    return found
