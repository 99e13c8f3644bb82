"""Splits of a data set: training and validation images for trials, training and test images for final runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError, UsageError
from objectives.base import DataOptions
from objectives.data.arrays import Arrays, ChannelStatistics, Images, Labels

Indices = NDArray[np.intp]

_BLOCK_VALUES = 1 << 15
"""Number of pixels of a channel that are counted at a time: 256 KiB of memory."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Images as uint8 (n, height, width, channels) and labels as int64 (n,), split for trials or a final run."""

    x_train: Images
    y_train: Labels
    x_valid: Images
    """Images held out to select models; empty in a final run."""
    y_valid: Labels
    x_test: Images | None
    """Test images; None unless the run is final."""
    y_test: Labels | None
    classes: tuple[str, ...]
    """Names of the labels."""
    mean: tuple[float, ...]
    """Mean of each channel over the training images, pixels scaled to 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise; never zero."""
    has_test: bool = True
    """Whether a final run can have a test set."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @property
    def class_count(self) -> int:
        """Number of classes: the length of the model's output."""
        return len(self.classes)


def split(arrays: Arrays, options: DataOptions, final: bool, classes: tuple[str, ...] | None = None) -> Data:
    """Split the training images, stratified by class; every trial of a study gets the same split.

    Validation images of the data set's own are used instead of training images that are held out.

    In a final run the validation images are training images, and the test set is included.

    Raises:
        UsageError: an option is out of range.
        DataDamagedError: a class has too few images, or there is no test set for a final run.
    """
    if not 0 < options.validation_fraction < 1:
        raise UsageError(
            f"the validation fraction must lie between 0 and 1, not {options.validation_fraction}"
        )
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"the limit on training images must be at least 1, not {options.limit}")
    if final and (arrays.x_test is None or arrays.y_test is None):
        raise DataDamagedError("there is no test set, but a final run needs one")
    y = arrays.y_train
    if classes is None:
        classes = tuple(str(label) for label in range(int(y.max()) + 1))
    train, valid = split_indices(y, options, arrays.y_valid)
    held_out, held_labels = (
        (arrays.x_train, y)
        if arrays.x_valid is None or arrays.y_valid is None
        else (arrays.x_valid, arrays.y_valid)
    )
    if not final:
        x_train, y_train = _taken(arrays.x_train, train), y[train]
    elif arrays.x_valid is None:
        train, valid = np.sort(np.concatenate([train, valid])), valid[:0]
        x_train, y_train = _taken(arrays.x_train, train), y[train]
    else:
        x_train = np.concatenate([_taken(arrays.x_train, train), _taken(held_out, valid)])
        y_train, valid = np.concatenate([y[train], held_labels[valid]]), valid[:0]
    known = arrays.statistics if len(x_train) == len(arrays.x_train) else None
    mean, std = known or channel_statistics(channel_counts(x_train))
    return Data(
        x_train=x_train,
        y_train=y_train,
        x_valid=_taken(held_out, valid),
        y_valid=held_labels[valid],
        x_test=arrays.x_test if final else None,
        y_test=arrays.y_test if final else None,
        classes=classes,
        mean=mean,
        std=std,
        has_test=arrays.has_test,
    )


def stratified(labels: Labels, count: int, rng: np.random.Generator, spare: int = 0) -> Indices:
    """Return about `count` sorted indices: each class in proportion, at least one, leaving at least `spare` of it.

    The number of indices differs from `count` only where these limits require it.
    """
    present, sizes = np.unique(labels, return_counts=True)
    most = np.maximum(sizes - spare, 0)
    shares = sizes * (count / len(labels))
    quotas = np.minimum(np.maximum(np.floor(shares).astype(np.intp), 1), most)
    for index in np.argsort(quotas - shares, kind="stable"):
        if quotas.sum() >= count:
            break
        quotas[index] = min(quotas[index] + 1, most[index])
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(present, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _taken(images: Images, indices: Indices) -> Images:
    """Return the images of sorted indices, without a copy if these are all."""
    return images if len(indices) == len(images) else images[indices]


def split_indices(y: Labels, options: DataOptions, y_valid: Labels | None = None) -> tuple[Indices, Indices]:
    """Return the indices of the training and validation images of a study's trials, within the limit.

    Those of validation images refer to `y_valid` if it is given, else to `y`.

    Raises:
        DataDamagedError: a class has too few images.
    """
    rng = np.random.default_rng(options.split_seed)
    if y_valid is None:
        valid = stratified(y, round(len(y) * options.validation_fraction), rng, spare=1)
        if len(valid) == 0:
            raise DataDamagedError("no class has two images, one to train on and one to validate on")
        train = np.setdiff1d(np.arange(len(y)), valid)
    else:
        train, valid = np.arange(len(y)), np.arange(len(y_valid))
    if options.limit is not None and options.limit < len(train):
        proportion = options.limit / len(train)
        train = train[stratified(y[train], options.limit, rng)]
        labels = y if y_valid is None else y_valid
        valid = valid[stratified(labels[valid], round(len(valid) * proportion), rng)]
    return train, valid


def channel_counts(x: Images) -> NDArray[np.int64]:
    """Return how often each of the 256 values occurs in each channel (channels, 256)."""
    counts = np.zeros((x.shape[-1], 256), np.int64)
    # In blocks, because counting makes eight bytes of each pixel.
    rows = max(1, _BLOCK_VALUES // (x.shape[1] * x.shape[2]))
    for first in range(0, len(x), rows):
        for channel, count in enumerate(counts):
            count += np.bincount(x[first : first + rows, ..., channel].ravel(), minlength=256)
    return counts


def channel_statistics(counts: NDArray[np.int64]) -> ChannelStatistics:
    """Return mean and standard deviation of each channel in 0..1, exact, from the counts of its values."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for count in counts:
        shares = count / count.sum()
        mean = float(shares @ values)
        means.append(mean)
        deviations.append(max(float(shares @ (values - mean) ** 2) ** 0.5, 1e-3))
    return tuple(means), tuple(deviations)
