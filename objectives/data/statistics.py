"""Mean and standard deviation of the channels of images, in blocks that take little memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from objectives.data import inputs
from objectives.data.arrays import ChannelStatistics
from objectives.data.inputs import Inputs
from objectives.data.read_ahead import release

_BLOCK_VALUES = 1 << 15
"""Number of pixels of a channel that are counted at a time: 256 KiB of memory."""
_RELEASED_BLOCKS = 1024
"""Number of blocks after which the pages of a large mapped array are released: some 100 MiB."""
_SMALLEST = 1e-3
"""Smallest standard deviation: inputs are divided by it."""


def input_statistics(x: Inputs) -> ChannelStatistics:
    """Return mean and standard deviation of each channel of images, integers in 0..1; empty for other inputs."""
    if isinstance(x, dict) or not inputs.is_images(x):
        return (), ()
    if x.dtype in (np.uint8, np.uint16):
        return channel_statistics(channel_counts(x))
    return _moments(x)


def channel_counts(x: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return how often each value of the type occurs in each channel (channels, values)."""
    values = int(np.iinfo(x.dtype).max) + 1
    counts = np.zeros((x.shape[-1], values), np.int64)
    # In blocks, because counting makes eight bytes of each pixel.
    rows = max(1, _BLOCK_VALUES // (x.shape[1] * x.shape[2]))
    for number, first in enumerate(range(0, len(x), rows)):
        for channel, count in enumerate(counts):
            count += np.bincount(x[first : first + rows, ..., channel].ravel(), minlength=values)
        if number % _RELEASED_BLOCKS == 0:
            release(x)
    return counts


def channel_statistics(counts: NDArray[np.int64]) -> ChannelStatistics:
    """Return mean and standard deviation of each channel in 0..1, exact, from the counts of its values."""
    values = np.arange(counts.shape[1]) / (counts.shape[1] - 1)
    means, deviations = [], []
    for count in counts:
        shares = count / count.sum()
        mean = float(shares @ values)
        means.append(mean)
        deviations.append(max(float(shares @ (values - mean) ** 2) ** 0.5, _SMALLEST))
    return tuple(means), tuple(deviations)


def _moments(x: NDArray[np.generic]) -> ChannelStatistics:
    """Return mean and standard deviation of each channel, in float64 and two passes."""
    axes, count = (0, 1, 2), x.size // x.shape[-1]
    mean = (
        sum((x[rows].sum(axis=axes, dtype=np.float64) for rows in inputs.ranges(x)), np.zeros(x.shape[-1]))
        / count
    )
    squares = sum(
        (((x[rows] - mean) ** 2).sum(axis=axes) for rows in inputs.ranges(x)), np.zeros(x.shape[-1])
    )
    deviations = np.sqrt(squares / count)
    # Raw values have any scale: a constant channel is divided by one.
    return tuple(map(float, mean)), tuple(float(std) if std > 0 else 1.0 for std in deviations)
