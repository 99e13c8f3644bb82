"""The images that a source lists: their paths, targets, own splits and groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpo.errors import DataDamagedError
from objectives.data.class_names import LABEL_SEPARATOR, are_fractions, composed, sorted_classes
from objectives.data.targets import Targets
from objectives.data_options import TaskName
from objectives.names import MOST_NAME, is_text, is_usable

SPLITS = ("train", "valid", "test")
"""Names of the splits, in the order in which a cache holds their images."""

TITLES = {"train": "training", "valid": "validation", "test": "test"}
"""Names of the splits in messages."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
"""Names that folders and tables may use for the splits."""

MOST_NAMED = 3
"""Number of files that a message names."""
_LONGEST_NAMED = 200
"""Number of characters of a path in a message."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One listed image."""

    path: str
    """Path relative to the listing's folder, or absolute."""
    label: str
    """Name of its class; names of its labels or numbers to predict, separated by `LABEL_SEPARATOR`."""
    split: str | None = None
    """One of `SPLITS`; None: the source has no splits of its own."""
    group: str | None = None
    """Images of a group never cross splits; None: a group of its own."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of a source in a fixed order, and the names of their classes, labels or targets."""

    source: Path
    """The folder or table."""
    folder: Path
    """The folder that relative paths start from."""
    pictures: Sequence[Picture]
    ignored: Sequence[str] = ()
    """Files next to the images that are no images by their names."""
    task: TaskName = "classes"
    columns: tuple[str, ...] = ()
    """Names of several numbers to predict; empty: there is one."""
    classes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.task == "regression":
            names = self.columns or ("target",)
        else:
            names = sorted_classes({name for picture in self.pictures for name in self.names(picture)})
        object.__setattr__(self, "classes", names)

    def names(self, picture: Picture) -> Sequence[str]:
        """Return the names of an image's class or labels."""
        if self.task != "labels":
            return (picture.label,)
        return picture.label.split(LABEL_SEPARATOR) if picture.label else ()

    @property
    def targets(self) -> Targets:
        """Targets of the images, in the form of `objectives.data.targets`."""
        if self.task == "regression":
            rows = [picture.label.split(LABEL_SEPARATOR) for picture in self.pictures]
            return np.array(rows, np.float64).astype(np.float32).reshape(len(rows), len(self.classes))
        numbers = {name: number for number, name in enumerate(self.classes)}
        if self.task == "labels":
            hot = np.zeros((len(self.pictures), len(self.classes)), np.uint8)
            for row, picture in enumerate(self.pictures):
                hot[row, [numbers[name] for name in self.names(picture)]] = 1
            return hot
        return np.array([numbers[picture.label] for picture in self.pictures], np.int64)

    @property
    def own_splits(self) -> frozenset[str]:
        """The splits that the source itself defines; empty if it defines none."""
        return frozenset(picture.split for picture in self.pictures if picture.split is not None)


def class_name(text: str, place: str) -> str:
    """Return the name of a class in Unicode's composed form, in which names from any system are equal.

    Raises:
        DataDamagedError: it is empty, too long or no valid text.
    """
    name = composed(text).strip()
    if not is_usable(name):
        raise DataDamagedError(
            f"{place} has the class name {text!a}: use printable UTF-8 text of at most {MOST_NAME} characters"
        )
    return name


def check(listing: Listing, files: str) -> None:
    """Check that classes and splits can be trained on; `files` names the source's images in messages.

    Raises:
        DataDamagedError: they cannot.
    """
    own = listing.own_splits
    if own and "train" not in own:
        raise DataDamagedError(
            f"{listing.source} has the splits {_named(own)} and no train: add training images"
        )
    _check_classes(listing, files)
    if listing.task != "regression":
        _check_known(listing)
    _check_groups(listing)
    _check_counts(listing)


def _check_classes(listing: Listing, files: str) -> None:
    classes, source = listing.classes, listing.source
    if not listing.pictures:
        raise DataDamagedError(f"{source} has no {files}: add some")
    if listing.task == "labels" and not classes:
        raise DataDamagedError(f"{source} has no label for any image: fill the column label")
    if listing.task in ("classes", "binary") and len(classes) < 2:
        raise DataDamagedError(
            f"{source} has the single class {classes[0]}: a classifier needs images of at least two classes,"
            " <class>/*.jpg or path,label in a table"
        )
    if listing.task == "binary" and len(classes) > 2:
        raise DataDamagedError(
            f"{source} has {len(classes)} classes ({', '.join(classes[:3])}, …), and task binary needs two: set --task"
            " classes"
        )
    if listing.task == "classes" and are_fractions(classes):
        raise DataDamagedError(
            f"{source} has numbers such as {classes[0]} as labels: for numbers to predict set --task regression"
        )


def _check_known(listing: Listing) -> None:
    """Check that the training images have all classes or labels."""
    trained = {
        name
        for picture in listing.pictures
        if picture.split in (None, "train")
        for name in listing.names(picture)
    }
    strange = {
        (str(picture.split), name)
        for picture in listing.pictures
        for name in listing.names(picture)
        if name not in trained
    }
    if strange:
        split, name = min(strange)
        kind = "label" if listing.task == "labels" else "class"
        raise DataDamagedError(
            f"{listing.source} has the {kind} {name} in {split} and not in train: move its images, or add training"
            " images of it"
        )


def _check_groups(listing: Listing) -> None:
    if not listing.own_splits:
        return
    seen: dict[str, str | None] = {}
    for picture in listing.pictures:
        if picture.group is not None and seen.setdefault(picture.group, picture.split) != picture.split:
            raise DataDamagedError(
                f"{listing.source} has the group {picture.group} in {seen[picture.group]} and in {picture.split}:"
                " give all images of a group the same split"
            )


def _check_counts(listing: Listing) -> None:
    """Check that each class has an image for each split that has to be made, and one for the training split."""
    own = listing.own_splits
    made = [split for split in SPLITS if split == "train" or split not in own]
    needed = f"at least {len(made)} ({', '.join(TITLES[split] for split in made)})"
    training = [picture for picture in listing.pictures if picture.split in (None, "train")]
    if listing.task in ("labels", "regression"):
        if len(training) < len(made):
            raise DataDamagedError(f"{listing.source} has {_images(len(training))}: add some, {needed}")
        return
    pool: dict[str, int] = dict.fromkeys(listing.classes, 0)
    for picture in training:
        pool[picture.label] += 1
    name, count = min(pool.items(), key=lambda item: item[1])
    if count < len(made):
        raise DataDamagedError(
            f"{listing.source} has {_images(count)} of class {name}: add some, or remove the class; each needs {needed}"
        )


def _images(count: int) -> str:
    return f"{count} training image{'' if count == 1 else 's'}"


def named(paths: Sequence[str]) -> str:
    """Return the first paths for a message, and the number of further ones."""
    shown = ", ".join(_printable(path) for path in paths[:MOST_NAMED])
    more = len(paths) - MOST_NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _printable(path: str) -> str:
    text = path if is_text(path) else ascii(path)
    return text if len(text) <= _LONGEST_NAMED else f"…{text[-_LONGEST_NAMED:]}"


def _named(splits: Iterable[str]) -> str:
    return " and ".join(split for split in SPLITS if split in splits)
