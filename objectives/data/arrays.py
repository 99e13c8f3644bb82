"""The arrays of a data set, validated, and those that a function returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data import inputs, targets
from objectives.data.errors import ArrayInvalidError
from objectives.data.inputs import Inputs
from objectives.data.returned import calling as returned
from objectives.data.returned.reading import named
from objectives.data.targets import Targets
from objectives.data_options import TaskName

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
ChannelStatistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, pixels scaled to 0..1."""

NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Names of the arrays in a file: the layout of `keras.datasets`."""

VALIDATION = ("val", "valid", "validation")
"""Names of the optional validation arrays in a file, after `x_` and `y_`."""


@dataclass(frozen=True)
class Arrays:
    """Inputs and targets, rows first: `objectives.data.inputs` and `objectives.data.targets` define their forms."""

    x_train: Any
    y_train: Targets
    x_test: Any = None
    y_test: Targets | None = None
    _: KW_ONLY
    x_valid: Any = None
    """Validation inputs of the data set's own; None: training rows are held out instead."""
    y_valid: Targets | None = None
    statistics: ChannelStatistics | None = None
    """Mean and deviation of all training images, if they are known; else they are computed."""
    has_test: bool = True
    """Whether there is a test set, loaded or not."""
    test_problem: str = ""
    """Reason why a final run refuses the inputs of the test set; empty if it accepts them."""
    task: TaskName = "classes"
    classes: tuple[str, ...] | None = None
    """Names of classes, labels or targets; None: numbers."""
    groups: NDArray[np.int64] | None = None
    """Number of the group of each training row, whose rows are never divided between splits; None: no groups."""


def call(
    function: Callable[[], Any],
    names: Sequence[str] | None,
    test: bool,
    task: TaskName = "classes",
    folder: Path | None = None,
    seed: int = 0,
) -> Arrays:
    """Return the arrays of a user's function: pairs of inputs and targets. Its random numbers begin with `seed`.

    One pair is the training set, two are the training and the test set, three the training, validation and test set.

    Raises:
        DataDamagedError: the function returns something else.
    """
    found = returned.call(function, seed)
    try:
        return checked(
            found.splits, task, names or found.classes, folder, test=test, tolerates_test_inputs=not test
        )
    except ArrayInvalidError as exc:
        raise DataDamagedError(f"{named(function)} returns invalid data: {exc}") from exc


def without_test(arrays: Arrays, *, unless: bool) -> Arrays:
    """Return the arrays without their test set, which only a final run may open, unless it is one."""
    return arrays if unless else replace(arrays, x_test=None, y_test=None)


def checked(
    pairs: Mapping[str, tuple[Any, Any]],
    task: TaskName = "classes",
    names: Sequence[str] | None = None,
    folder: Path | None = None,
    *,
    test: bool = True,
    tolerates_test_inputs: bool = False,
) -> Arrays:
    """Return the inputs and targets of each split in the form of their task, those for training first.

    `names` are declared names of classes, labels or targets. Unless `test`, the test set is checked and left out. Large
    converted arrays are written to `folder`, if given. `tolerates_test_inputs`: invalid ones, which trials do not need,
    are noted in `test_problem`.

    Raises:
        ArrayInvalidError: they cannot be trained on.
    """
    found: dict[str, Inputs] = {}
    problems: list[str] = []
    for split, (x, _) in pairs.items():
        with _noted(problems, tolerates_test_inputs and split == "test"):
            found[split] = inputs.checked(x, f"x_{split}", folder, trains=split == "train")
    y, classes = targets.converted(task, {f"y_{split}": y for split, (_, y) in pairs.items()}, names)
    for split, x in found.items():
        with _noted(problems, tolerates_test_inputs and split == "test"):
            rows, labels = inputs.count(x), len(y[f"y_{split}"])
            if rows != labels:
                raise ArrayInvalidError(f"x_{split} has {rows} rows but y_{split} {labels}")
            _check_alike(found["train"], x, split)
    targets.check_learnable(y["y_train"], classes, task)
    valid = next((split for split in found if split in VALIDATION), None)
    return Arrays(
        found["train"],
        y["y_train"],
        found.get("test") if test else None,
        y.get("y_test") if test else None,
        x_valid=None if valid is None else found[valid],
        y_valid=None if valid is None else y[f"y_{valid}"],
        has_test="test" in pairs,
        test_problem="".join(problems[:1]),
        task=task,
        classes=classes,
    )


@contextmanager
def _noted(problems: list[str], noted: bool) -> Iterator[None]:
    """Note the problem of arrays if `noted`, else let it be raised."""
    try:
        yield
    except ArrayInvalidError as exc:
        if not noted:
            raise
        problems.append(str(exc))


def _check_alike(train: Inputs, other: Inputs, split: str) -> None:
    """Check that inputs of a split have the shapes and types of the training inputs."""
    expected, found = inputs.each(train), inputs.each(other)
    if set(expected) != set(found):
        raise ArrayInvalidError(
            f"x_{split} has the inputs {', '.join(found) or 'of an array'}, x_train {', '.join(expected) or 'an array'}"
        )
    for name, array in found.items():
        place = f"[{name!r}]" if name else ""
        if array.shape[1:] != expected[name].shape[1:]:
            raise ArrayInvalidError(
                f"x_{split}{place} has rows of {array.shape[1:]}, x_train{place} of {expected[name].shape[1:]}"
            )
        types = array.dtype, expected[name].dtype
        if types[0] != types[1] and not types[0].kind == types[1].kind in "iU":
            raise ArrayInvalidError(f"x_{split}{place} is {types[0]}, x_train{place} {types[1]}")
