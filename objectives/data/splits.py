"""Splits of a data set: training and validation rows for trials, training and test rows for final runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError, ObjectiveBrokenError, UsageError
from objectives.base import DataOptions
from objectives.data import inputs
from objectives.data.arrays import Arrays
from objectives.data.folds import fold_indices
from objectives.data.inputs import Inputs, Shape
from objectives.data.statistics import input_statistics
from objectives.data.stratification import Indices, held_out, strata, stratified
from objectives.data.targets import Targets
from objectives.data_options import DEFAULT_TEST_FRACTION, TaskName

_channel_statistics = input_statistics
"""Earlier name, by which measurements of memory call it."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Inputs and targets, rows first, split for trials or a final run.

    Inputs are an array, or a dict of arrays by name; images are (n, height, width, channels), uint8 unless the data set
    has others. Targets are int64 (n,) numbers of classes, uint8 (n, labels) of 0 and 1, int64 (n,) of 0 and 1 for
    binary, or float32 (n, targets) for regression.
    """

    x_train: Any
    y_train: Targets
    x_valid: Any
    """Inputs held out to select models; empty in a final run."""
    y_valid: Targets
    x_test: Any
    """Test inputs; None unless the run is final."""
    y_test: Targets | None
    classes: tuple[str, ...]
    """Names of the classes or labels, the two classes of binary, or the targets of regression."""
    mean: tuple[float, ...]
    """Mean of each channel over the training images, uint8 and uint16 scaled to 0..1; empty if there are no images."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise; never zero."""
    has_test: bool = True
    """Whether a final run can have a test set."""
    test_problem: str = ""
    """Reason why a final run refuses the inputs of the test set; empty if it accepts them."""
    folds: tuple[tuple[Indices, Indices], ...] = ()
    """Rows of `x_train` that each fold trains on and holds out, sorted; empty: there is one split."""
    task: TaskName = "classes"

    @property
    def input_shape(self) -> Shape | dict[str, Shape]:
        """Shape of an example, or the shapes of its inputs by name."""
        return inputs.shape_of(self.x_train)

    @property
    def output_size(self) -> int:
        """Length of the model's output: 1 for binary, else one number for each class, label or target."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels.

        Raises:
            ObjectiveBrokenError: the inputs are not images.
        """
        if not inputs.is_images(self.x_train):
            raise ObjectiveBrokenError(
                f"data.image_shape is for images (n, height, width, channels), and this data has inputs of"
                f" {self.input_shape}: use data.input_shape, or add an axis for the channel"
            )
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @property
    def class_count(self) -> int:
        """Number of classes, labels or targets."""
        return len(self.classes)


def split(arrays: Arrays, options: DataOptions, final: bool, classes: tuple[str, ...] | None = None) -> Data:
    """Split the training rows, stratified by class; every trial of a study gets the same split.

    Validation rows of the data set's own are used instead of training rows that are held out.

    In a final run the validation rows are training rows, and the test set is included.

    Raises:
        UsageError: an option is out of range.
        DataDamagedError: a class has too few rows, or there is no test set for a final run.
    """
    if not 0 < options.validation_fraction < 1:
        raise UsageError(
            f"the validation fraction must lie between 0 and 1, not {options.validation_fraction}"
        )
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"the limit on training examples must be at least 1, not {options.limit}")
    fraction = made_test_fraction(arrays, options)
    if final and fraction is None and (arrays.x_test is None or arrays.y_test is None):
        raise DataDamagedError(
            "there is no test set, but a final run needs one: add one to the data, which a function returns last"
        )
    if options.folds is not None and not final:
        return _in_folds(arrays, options, options.folds, classes)
    folder = None if options.cache_dir is None else Path(options.cache_dir)
    pool, test = training_and_test(arrays, options)
    x_train, y_train, x_valid, y_valid = _training_and_validation(arrays, options, pool, final, folder)
    x_test, y_test = arrays.x_test, arrays.y_test
    if fraction is not None and final:
        x_test, y_test = inputs.take(arrays.x_train, test, folder), arrays.y_train[test]
    known = arrays.statistics if len(y_train) == len(arrays.y_train) else None
    mean, std = known or input_statistics(x_train)
    return Data(
        x_train=x_train,
        y_train=y_train,
        x_valid=x_valid,
        y_valid=y_valid,
        x_test=x_test if final else None,
        y_test=y_test if final else None,
        classes=classes or _names(arrays),
        mean=mean,
        std=std,
        has_test=arrays.has_test or fraction is not None,
        test_problem=arrays.test_problem,
        task=arrays.task,
    )


def _training_and_validation(
    arrays: Arrays, options: DataOptions, pool: Indices, final: bool, folder: Path | None
) -> tuple[Inputs, Targets, Inputs, Targets]:
    """Return inputs and targets to train on, then those held out, none in a final run."""
    x, y = arrays.x_train, arrays.y_train
    groups = None if arrays.groups is None else arrays.groups[pool]
    if final and options.folds is not None and options.limit is not None:
        # All rows of the folds: others of a limited study have been in no trial.
        folds = fold_indices(y[pool], options, options.folds, arrays.task, groups)
        rows = pool[np.sort(np.concatenate([held_out for _, held_out in folds]))]
        return inputs.take(x, rows, folder), y[rows], inputs.slices(x, slice(0)), y[:0]
    train, valid = split_indices(y[pool], options, arrays.y_valid, arrays.task, groups)
    train = pool[train]
    if arrays.x_valid is None or arrays.y_valid is None:
        valid = pool[valid]
        if final:
            train, valid = np.sort(np.concatenate([train, valid])), valid[:0]
        return inputs.take(x, train, folder), y[train], inputs.take(x, valid, folder), y[valid]
    x_train, y_train = inputs.take(x, train, folder), y[train]
    x_valid, y_valid = inputs.take(arrays.x_valid, valid, folder), arrays.y_valid[valid]
    if not final:
        return x_train, y_train, x_valid, y_valid
    joined = inputs.joined(x_train, x_valid, folder)
    return joined, np.concatenate([y_train, y_valid]), inputs.slices(x_valid, slice(0)), y_valid[:0]


def _in_folds(arrays: Arrays, options: DataOptions, k: int, classes: tuple[str, ...] | None) -> Data:
    """Return all rows for training, without those of a test set, and the rows of each fold.

    Raises:
        UsageError, DataDamagedError: as `fold_indices`; or the data have a validation split of their own.
    """
    if arrays.y_valid is not None:
        raise UsageError(
            "the data have a validation split of their own, and --folds makes one of each fold: leave --folds out, or"
            " join the validation rows with those for training"
        )
    pool, _ = training_and_test(arrays, options)
    groups = None if arrays.groups is None else arrays.groups[pool]
    names = classes or _names(arrays)
    folds = fold_indices(arrays.y_train[pool], options, k, arrays.task, groups, names)
    # Within a limit, not all rows of the pool are in a fold.
    used = np.sort(np.concatenate([held_out for _, held_out in folds]))
    rows = pool[used]
    folder = None if options.cache_dir is None else Path(options.cache_dir)
    x_train, y_train = inputs.take(arrays.x_train, rows, folder), arrays.y_train[rows]
    mean, std = (arrays.statistics if len(rows) == len(arrays.y_train) else None) or input_statistics(x_train)
    return Data(
        x_train=x_train,
        y_train=y_train,
        x_valid=inputs.slices(x_train, slice(0)),
        y_valid=y_train[:0],
        x_test=None,
        y_test=None,
        classes=names,
        mean=mean,
        std=std,
        has_test=arrays.has_test or made_test_fraction(arrays, options) is not None,
        test_problem=arrays.test_problem,
        task=arrays.task,
        folds=tuple(
            (np.searchsorted(used, train), np.searchsorted(used, held_out)) for train, held_out in folds
        ),
    )


def _names(arrays: Arrays) -> tuple[str, ...]:
    return arrays.classes or tuple(str(label) for label in range(int(arrays.y_train.max()) + 1))


def made_test_fraction(arrays: Arrays, options: DataOptions) -> float | None:
    """Return the share of the rows that is held out as the test set; None if there is one, or none is to be made."""
    if arrays.has_test:
        return None
    return options.test_fraction or (None if options.source is None else DEFAULT_TEST_FRACTION)


def training_and_test(arrays: Arrays, options: DataOptions) -> tuple[Indices, Indices]:
    """Return the sorted indices of the rows to train and validate on, and of those that are held out as the test set.

    Raises:
        DataDamagedError: there are too few rows to hold any out.
    """
    rows, fraction = np.arange(len(arrays.y_train)), made_test_fraction(arrays, options)
    if fraction is None:
        return rows, rows[:0]
    kinds, has_own = strata(arrays.y_train, arrays.task), arrays.y_valid is not None
    rng = np.random.default_rng([options.split_seed, 0])
    test = held_out(kinds, fraction, rng, arrays.groups, spare=1 if has_own else 2)
    if len(test) == 0:
        least = 2 if has_own else 3
        raise DataDamagedError(
            f"no class has {least} rows, one for each split: add rows, or a test set"
            if arrays.groups is None
            else "no group can be held out for the test set: give smaller groups, or a test set"
        )
    return np.setdiff1d(rows, test), test


def split_indices(
    y: Targets,
    options: DataOptions,
    y_valid: Targets | None = None,
    task: TaskName = "classes",
    groups: NDArray[np.int64] | None = None,
) -> tuple[Indices, Indices]:
    """Return the sorted indices of the training and validation rows of a study's trials, within the limit.

    Those of validation rows refer to `y_valid` if it is given, else to `y`. Rows of a group stay together.

    Raises:
        DataDamagedError: a class has too few rows.
    """
    rng = np.random.default_rng(options.split_seed)
    kinds = strata(y, task)
    if y_valid is None:
        valid = held_out(kinds, options.validation_fraction, rng, groups)
        if len(valid) == 0:
            raise DataDamagedError(
                "no class has two examples, one to train on and one to validate on"
                if groups is None
                else "no group can be held out for validation: give smaller groups, or a validation split"
            )
        train = np.setdiff1d(np.arange(len(y)), valid)
    else:
        train, valid = np.arange(len(y)), np.arange(len(y_valid))
    if options.limit is not None and options.limit < len(train):
        proportion = options.limit / len(train)
        train = train[stratified(kinds[train], options.limit, rng)]
        held_kinds = kinds if y_valid is None else strata(y_valid, task)
        valid = valid[stratified(held_kinds[valid], round(len(valid) * proportion), rng)]
    return train, valid
