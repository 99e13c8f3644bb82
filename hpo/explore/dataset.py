"""The data set that is looked at, split as trials see it, and what is done to its training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import DataDamagedError, UnknownObjectiveError, UsageError
from objectives import loader
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.data import arrays, datasets
from objectives.data.arrays import Arrays, Images, Labels
from objectives.data.splits import Data, Indices, split, split_indices

EXAMPLE = Augmentation(flip=True, shift=2, rotation_degrees=8)
"""Shown where no objective changes the images."""


@dataclass(frozen=True)
class Subject:
    """A data set as trials see it, and its test set beside it."""

    name: str
    title: str
    """Of a shipped data set; else empty."""
    data: Data
    """Split by default into training and validation images."""
    x_test: Images | None
    y_test: Labels | None
    indices: Mapping[str, Indices]
    """Where each training and validation image lies in the arrays of the data set."""
    augmentations: Mapping[str, Augmentation]
    """What objectives do to its training images, by their names; empty: none does."""

    @property
    def splits(self) -> dict[str, tuple[Images, Labels]]:
        """Images and labels of each split there is, by its name."""
        found = {
            "training": (self.data.x_train, self.data.y_train),
            "validation": (self.data.x_valid, self.data.y_valid),
        }
        if self.x_test is not None and self.y_test is not None:
            found["test"] = (self.x_test, self.y_test)
        return found

    def number(self, split: str, position: int) -> int:
        """Where an image of a split lies in the data set's own array, so that whoever looks for it finds it."""
        return int(self.indices[split][position]) if split in self.indices else position


def load_subject(name: str, data_dir: Path) -> Subject:
    """The data set of that name, a file `<data_dir>/<name>.npz`, or the one that an objective trains on.

    Raises:
        UsageError: the name is none of these, or the objective has no data set of images.
        DataMissingError, DataDamagedError: it cannot be read.
    """
    if name in datasets.SHIPPED or (data_dir / f"{name}.npz").is_file():
        return _subject(name, datasets.load(name, data_dir), datasets.class_names(name), _augmentations(name))
    try:
        objective = loader.load(name)
    except UnknownObjectiveError as exc:
        raise UsageError(
            f"{name!r} is no data set: give one of {', '.join(datasets.SHIPPED)}, a file {data_dir}/<name>.npz"
            " by its name, or an objective"
        ) from exc
    source = vars(objective).get("dataset", objective.dataset)
    classes = getattr(objective, "classes", None)
    augmentation = getattr(objective, "augmentation", None)
    if isinstance(source, staticmethod):
        source = source.__func__
    if source is None:
        raise UsageError(f"objective {name!r} names no data set, so there is nothing to look at")
    # Of a file's or module's class the name is enough, also as a folder's.
    name = name.rpartition(":")[2]
    used = {name: augmentation} if augmentation is not None else {}
    if callable(source):
        return _subject(name, _called(source, len(classes) if classes else None), classes, used)
    return _subject(source, datasets.load(source, data_dir), classes or datasets.class_names(source), used)


def _called(function: object, class_count: int | None) -> Arrays:
    assert callable(function)
    try:
        return arrays.call(function, class_count, test=True)
    except DataDamagedError:
        # It may have no test set, which only retraining needs; if it is unsound, this says so again.
        return arrays.call(function, class_count, test=False)


def _augmentations(dataset: str) -> dict[str, Augmentation]:
    objectives = {name: loader.load(name) for name in loader.names()}
    found = {
        name: getattr(objective, "augmentation", None)
        for name, objective in objectives.items()
        if objective.dataset == dataset
    }
    return {name: augmentation for name, augmentation in found.items() if augmentation is not None}


def _subject(
    name: str, loaded: Arrays, classes: tuple[str, ...] | None, augmentations: Mapping[str, Augmentation]
) -> Subject:
    title = datasets.SHIPPED[name].title if name in datasets.SHIPPED else ""
    data = split(Arrays(loaded.x_train, loaded.y_train), DataOptions(), final=False, classes=classes)
    train, valid = split_indices(loaded.y_train, DataOptions())
    indices = {"training": train, "validation": valid}
    return Subject(name, title, data, loaded.x_test, loaded.y_test, indices, augmentations)
