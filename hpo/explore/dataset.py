"""The explored data set, split as for trials, with the augmentations of its objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hpo import formatting
from hpo.explore.image_files import ImageFiles
from objectives.augment import Augmentation
from objectives.data import inputs
from objectives.data.inputs import Inputs
from objectives.data.splits import Data
from objectives.data.stratification import Indices
from objectives.data.targets import Targets
from objectives.data_options import TaskName

Rows = dict[str, tuple[Any, Targets]]
"""Inputs and targets by the name of their split."""

EXAMPLE = Augmentation(flip=True, shift=2, rotation_degrees=8)
"""Augmentation shown if no objective uses one."""

MOST_BYTES = 1 << 30
"""Size of the inputs that all examinations read; of larger ones, some read evenly spaced rows of about this size."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set as trials use it, and its test set."""

    name: str
    title: str
    """Title of a shipped data set; else empty."""
    data: Data
    """Training and validation rows of the default split."""
    x_test: Inputs | None
    y_test: Targets | None
    indices: Mapping[str, Indices]
    """Index of each training and validation row in the arrays of the data set."""
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Path of each image by split; empty: the rows are of arrays."""
    files: ImageFiles | None = None
    """Facts on the files of a folder or table; None: the rows are of arrays."""
    made: Sequence[str] = ()
    """Splits that are held out of the others, because the data set does not have them."""
    has_groups: bool = False
    """Whether groups of rows stay together in the splits that are made."""
    augmentations: Mapping[str, Augmentation]
    """Augmentation of each objective that uses one, by name."""

    @property
    def splits(self) -> Rows:
        """Inputs and targets of each available split, by name."""
        found: Rows = {
            "training": (self.data.x_train, self.data.y_train),
            "validation": (self.data.x_valid, self.data.y_valid),
        }
        if self.x_test is not None and self.y_test is not None:
            found["test"] = (self.x_test, self.y_test)
        return found

    @cached_property
    def step(self) -> int:
        """Distance of the rows that `sampled` holds: 1 unless the inputs are large."""
        arrays = (array for x, _ in self.splits.values() for array in inputs.each(x).values())
        return max(1, round(sum(array.nbytes for array in arrays) / MOST_BYTES))

    @property
    def sampled(self) -> Rows:
        """Every `step`-th row of each split, without a copy."""
        every = slice(None, None, self.step)
        return {name: (inputs.slices(x, every), y[every]) for name, (x, y) in self.splits.items()}

    def number(self, split: str, position: int) -> int:
        """Return the index of a row of a split in the array of the data set."""
        return int(self.indices[split][position]) if split in self.indices else position

    def where(self, split: str, position: int) -> str:
        """Return the path of an image of a split, or else the index of a row as `#7`."""
        return self.paths[split][position] if self.paths else f"#{self.number(split, position)}"

    def label(self, target: Any) -> str:
        """Return a target as a text: the name of its class, those of its labels, or its numbers."""
        if self.task == "labels":
            names = (name for name, has in zip(self.data.classes, target, strict=True) if has)
            return " | ".join(names) or "no label"
        if self.task == "regression":
            return " ".join(formatting.quantity(value) for value in np.ravel(target))
        return self.data.classes[int(target)]

    @property
    def task(self) -> TaskName:
        """Kind of the targets."""
        return self.data.task

    @property
    def is_images(self) -> bool:
        """Whether the inputs are images."""
        return inputs.is_images(self.data.x_train)

    @property
    def pixel_scale(self) -> float:
        """Number that pixels are divided by before `data.mean` is subtracted: 1 for floats."""
        dtype = self.data.x_train.dtype
        return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0

    @cached_property
    def pixel_range(self) -> tuple[float, float]:
        """Values shown as black and white: 0 and 255, or of other types the extremes of some training images."""
        x = self.data.x_train
        if x.dtype == np.uint8:
            return 0, 255
        some = x[:: max(1, len(x) // 64)]
        low, high = float(some.min()), float(some.max())
        return low, high if high > low else low + 1

    @property
    def noun(self) -> str:
        """Name of the rows."""
        return "images" if self.is_images else "rows"
