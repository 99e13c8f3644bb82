"""Statistics of a data set: class balance and the values of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Labels
from objectives.data.statistics import channel_counts

_BLOCK_VALUES = 1 << 22
"""Number of values that are counted at a time."""

SKEWED = 1.5
"""Smallest ratio of the largest to the smallest class of an unbalanced data set."""

BINS = 256
"""Number of bins of a histogram of pixels: one for each value of 8 bits."""

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

    def describe_classes(self, noun: str = "images") -> str:
        """Return a sentence on the balance of the classes."""
        if self.ratio is None:
            return f"A class has no training {noun}, so it cannot be learned."
        size = f"The largest class has {self.ratio:.2f} times the training {noun} of the smallest"
        if self.ratio >= SKEWED:
            return f"{size}: accuracy alone hides errors in small classes; check recall and F1 of each class."
        if self.p_uniform is None:
            return f"{size}; there are too few {noun} or classes for a test of equal frequencies."
        chance = "no significant imbalance" if self.p_uniform > 0.05 else "a significant but small imbalance"
        return f"{size}: {chance} (chi-square test for equal classes, p = {self.p_uniform:.2g})."

    def describe_splits(self, noun: str = "images") -> str:
        """Return a sentence on the class shares of the splits."""
        if self.p_same is None:
            return f"There are too few {noun} or classes for a test of the class shares of the splits."
        found = (
            "The class shares of the splits do not differ significantly"
            if self.p_same > 0.01
            else "The class shares of the splits differ significantly"
        )
        return f"{found} (chi-square test, p = {self.p_same:.2g})."


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Pixel values of one channel over the images of a split."""

    split: str
    channel: str
    mean: float
    std: float
    min: float
    max: float
    share_low: float
    """Share of the pixels with the lowest value that they can have, or of floats the lowest that occurs."""
    share_high: float
    """Share of the pixels with the highest value, likewise."""
    histogram: Sequence[int]
    """Number of pixels in each of `BINS` bins of equal width."""
    low: float
    """Value of the first bin: its centre for 8 bits, else its lower edge."""
    width: float
    """Distance of the bins."""


def balance(labels: Mapping[str, Labels], classes: int) -> Balance:
    """Count the rows of each class in each split and test their balance."""
    from scipy import stats

    counts = {name: np.bincount(y, minlength=classes) for name, y in labels.items()}
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


def channels(split: str, x: NDArray[Any]) -> list[Channel]:
    """Return the statistics of each channel of images (n, height, width, channels); exact for 8 bits."""
    names = {1: ("grey",), 3: ("red", "green", "blue")}.get(x.shape[-1])
    counts = channel_counts(x) if x.dtype == np.uint8 else None
    found = []
    for index in range(x.shape[-1]):
        name = names[index] if names else f"channel {index}"
        found.append(
            _channel(split, name, x[..., index])
            if counts is None
            else _channel_of_bytes(split, name, counts[index])
        )
    return found


def _channel_of_bytes(split: str, name: str, histogram: NDArray[np.int64]) -> Channel:
    values, shares = np.arange(256), histogram / histogram.sum()
    mean, seen = float(shares @ values), np.flatnonzero(histogram)
    return Channel(
        split=split,
        channel=name,
        mean=mean,
        std=float(shares @ (values - mean) ** 2) ** 0.5,
        min=int(seen[0]),
        max=int(seen[-1]),
        share_low=float(shares[0]),
        share_high=float(shares[255]),
        histogram=histogram.tolist(),
        low=0.0,
        width=1.0,
    )


def _channel(split: str, name: str, x: NDArray[Any]) -> Channel:
    blocks = _blocks(x)
    low, high = float(min(block.min() for block in blocks)), float(max(block.max() for block in blocks))
    limits = np.iinfo(x.dtype) if np.issubdtype(x.dtype, np.integer) else None
    first, last = (limits.min, limits.max) if limits else (low, high)
    # A single value has a bin of its own.
    edges = (low, high) if high > low else (low, low + 1)
    histogram = np.zeros(BINS, np.int64)
    total = squares = at_first = at_last = 0.0
    for block in blocks:
        values = block.astype(np.float64)
        histogram += np.histogram(values, BINS, edges)[0]
        total, squares = total + values.sum(), squares + ((values - low) ** 2).sum()
        at_first, at_last = at_first + (block == first).sum(), at_last + (block == last).sum()
    mean = total / x.size
    return Channel(
        split=split,
        channel=name,
        mean=mean,
        std=max(0.0, squares / x.size - (mean - low) ** 2) ** 0.5,
        min=low,
        max=high,
        share_low=at_first / x.size,
        share_high=at_last / x.size,
        histogram=histogram.tolist(),
        low=low,
        width=(edges[1] - edges[0]) / BINS,
    )


def _blocks(x: NDArray[Any]) -> list[NDArray[Any]]:
    """Return slices of rows, none with much more than `_BLOCK_VALUES` values."""
    rows = max(1, _BLOCK_VALUES * len(x) // max(1, x.size))
    return [x[start : start + rows] for start in range(0, len(x), rows)]
