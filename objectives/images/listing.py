"""The images that a source lists: their paths, labels, own splits and groups."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError

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


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One listed image."""

    path: str
    """Path relative to the listing's folder, or absolute."""
    label: str
    split: str | None = None
    """One of `SPLITS`; None: the source has no splits of its own."""
    group: str | None = None
    """Images of a group never cross splits; None: a group of its own."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of a source in a fixed order, and the names of their classes."""

    source: Path
    """The folder or table."""
    folder: Path
    """The folder that relative paths start from."""
    pictures: Sequence[Picture]
    ignored: Sequence[str] = ()
    """Files next to the images that are no images by their names."""
    classes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", sorted_classes({picture.label for picture in self.pictures}))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Number of the class of each image."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[picture.label] for picture in self.pictures], np.int64)

    @property
    def own_splits(self) -> frozenset[str]:
        """The splits that the source itself defines; empty if it defines none."""
        return frozenset(picture.split for picture in self.pictures if picture.split is not None)


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted: as numbers if all are whole numbers."""
    found = list(names)
    if all(name.isascii() and name.isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def class_name(text: str, place: str) -> str:
    """Return the name of a class in Unicode's composed form, in which names from any system are equal.

    Raises:
        DataDamagedError: it is empty or no valid text.
    """
    name = unicodedata.normalize("NFC", text).strip()
    # Bytes that are no UTF-8 are not printable.
    if not name or not name.isprintable():
        raise DataDamagedError(f"{place} has the class name {text!a}: use printable UTF-8 text")
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
    classes = listing.classes
    if len(classes) < 2:
        raise DataDamagedError(
            f"{listing.source} has {'the single class ' + classes[0] if classes else f'no {files}'}:"
            " a classifier needs images of at least two classes, <class>/*.jpg or path,label in a table"
        )
    trained = {picture.label for picture in listing.pictures if picture.split in (None, "train")}
    strange = {(picture.split, picture.label) for picture in listing.pictures if picture.label not in trained}
    if strange:
        split, label = min((str(split), label) for split, label in strange)
        raise DataDamagedError(
            f"{listing.source} has the class {label} in {split} and not in train: move its images, or add training"
            " images of it"
        )
    _check_groups(listing)
    _check_counts(listing)


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
    pool: dict[str, int] = dict.fromkeys(listing.classes, 0)
    for picture in listing.pictures:
        pool[picture.label] += picture.split in (None, "train")
    name, count = min(pool.items(), key=lambda item: item[1])
    if count < len(made):
        raise DataDamagedError(
            f"{listing.source} has {count} training image{'' if count == 1 else 's'} of class {name}: add some, or"
            f" remove the class; each needs at least {len(made)} ({', '.join(TITLES[split] for split in made)})"
        )


def named(paths: Sequence[str]) -> str:
    """Return the first paths for a message, and the number of further ones."""
    shown = ", ".join(_printable(path) for path in paths[:MOST_NAMED])
    more = len(paths) - MOST_NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _named(splits: Iterable[str]) -> str:
    return " and ".join(split for split in SPLITS if split in splits)
