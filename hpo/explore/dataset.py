"""The explored data set, split as for trials, with the augmentations of its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.errors import DataDamagedError, UnknownObjectiveError, UsageError
from objectives import loader
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.data import arrays, datasets
from objectives.data.arrays import Arrays, Images, Labels
from objectives.data.splits import Data, Indices, split, split_indices

EXAMPLE = Augmentation(flip=True, shift=2, rotation_degrees=8)
"""Augmentation shown if no objective uses one."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set as trials use it, and its test set."""

    name: str
    title: str
    """Title of a shipped data set; else empty."""
    data: Data
    """Training and validation images of the default split."""
    x_test: Images | None
    y_test: Labels | None
    indices: Mapping[str, Indices]
    """Index of each training and validation image in the arrays of the data set."""
    augmentations: Mapping[str, Augmentation]
    """Augmentation of each objective that uses one, by name."""

    @property
    def splits(self) -> dict[str, tuple[Images, Labels]]:
        """Images and labels of each available split, by name."""
        found = {
            "training": (self.data.x_train, self.data.y_train),
            "validation": (self.data.x_valid, self.data.y_valid),
        }
        if self.x_test is not None and self.y_test is not None:
            found["test"] = (self.x_test, self.y_test)
        return found

    def number(self, split: str, position: int) -> int:
        """Return the index of an image of a split in the array of the data set."""
        return int(self.indices[split][position]) if split in self.indices else position


def load_dataset(name: str, data_dir: Path) -> Dataset:
    """Load a data set: a shipped one, a file `<data_dir>/<name>.npz`, or that of an objective.

    Raises:
        UsageError: the name is unknown, or the objective has no data set of images.
        DataMissingError, DataDamagedError: the data set cannot be read.
    """
    if name in datasets.SHIPPED or (data_dir / f"{name}.npz").is_file():
        return _dataset(name, datasets.load(name, data_dir), datasets.class_names(name), _augmentations(name))
    try:
        objective = loader.load(name)
    except UnknownObjectiveError as exc:
        raise UsageError(
            f"unknown data set {name!r}: use one of {', '.join(datasets.SHIPPED)}, the name of a file"
            f" {data_dir}/<name>.npz, or an objective"
        ) from exc
    source = vars(objective).get("dataset", objective.dataset)
    classes = getattr(objective, "classes", None)
    augmentation = getattr(objective, "augmentation", None)
    if isinstance(source, staticmethod):
        source = source.__func__
    if source is None:
        raise UsageError(f"objective {name!r} has no data set: set its `dataset` to explore it")
    # The class name alone also serves as the folder name.
    name = name.rpartition(":")[2]
    used = {name: augmentation} if augmentation is not None else {}
    if callable(source):
        return _dataset(name, _called(source, classes), classes, used)
    return _dataset(source, datasets.load(source, data_dir), classes or datasets.class_names(source), used)


def _called(function: object, classes: tuple[str, ...] | None) -> Arrays:
    assert callable(function)
    try:
        return arrays.call(function, classes, test=True)
    except DataDamagedError:
        # There may be no test set, which only retraining needs; invalid data raises the error again.
        return arrays.call(function, classes, test=False)


def _augmentations(dataset: str) -> dict[str, Augmentation]:
    objectives = {name: loader.load(name) for name in loader.names()}
    found = {
        name: getattr(objective, "augmentation", None)
        for name, objective in objectives.items()
        if objective.dataset == dataset
    }
    return {name: augmentation for name, augmentation in found.items() if augmentation is not None}


def _dataset(
    name: str, loaded: Arrays, classes: tuple[str, ...] | None, augmentations: Mapping[str, Augmentation]
) -> Dataset:
    train, valid = split_indices(loaded.y_train, DataOptions(), loaded.y_valid)
    return Dataset(
        name=name,
        title=datasets.SHIPPED[name].title if name in datasets.SHIPPED else "",
        data=split(replace(loaded, x_test=None, y_test=None), DataOptions(), final=False, classes=classes),
        x_test=loaded.x_test,
        y_test=loaded.y_test,
        indices={"training": train, "validation": valid},
        augmentations=augmentations,
    )
