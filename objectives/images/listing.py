"""The images that a source lists: their paths, targets, own splits and groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import DataDamagedError
from objectives.data.targets import Targets
from objectives.data_options import TaskName
from objectives.images.labels import LABELS, Labels
from objectives.names import is_text

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
    """Files next to the images that are not images by their names."""
    task: TaskName = "classes"
    columns: tuple[str, ...] = ()
    """Columns of several labels; empty: there is one column."""
    classes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        texts = {picture.label for picture in self.pictures}
        object.__setattr__(self, "classes", self.labels.classes(texts, self.columns))

    @property
    def labels(self) -> Labels:
        """Rules of the labels of its task."""
        return LABELS[self.task]

    @property
    def targets(self) -> Targets:
        """Targets of the images, in the form of `objectives.data.targets`."""
        return self.labels.targets([picture.label for picture in self.pictures], self.classes)

    @property
    def own_splits(self) -> frozenset[str]:
        """The splits that the source itself defines; empty if it defines none."""
        return frozenset(picture.split for picture in self.pictures if picture.split is not None)


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
    if not listing.pictures:
        raise DataDamagedError(f"{listing.source} has no {files}: add some")
    listing.labels.check(listing.source, [picture.label for picture in listing.pictures], listing.classes)
    if listing.labels.named:
        _check_known(listing)
    _check_groups(listing)
    _check_counts(listing)


def _check_known(listing: Listing) -> None:
    """Check that the training images have all classes or labels."""
    trained = {
        name
        for picture in listing.pictures
        if picture.split in (None, "train")
        for name in listing.labels.names(picture.label)
    }
    strange = {
        (str(picture.split), name)
        for picture in listing.pictures
        for name in listing.labels.names(picture.label)
        if name not in trained
    }
    if strange:
        split, name = min(strange)
        raise DataDamagedError(
            f"{listing.source} has the {listing.labels.kind} {name} in {split} and not in train: move its images, or"
            " add training images of it"
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
    training = [picture.label for picture in listing.pictures if picture.split in (None, "train")]
    count, name = listing.labels.fewest(training, listing.classes)
    if count >= len(made):
        return
    if name:
        raise DataDamagedError(
            f"{listing.source} has {_images(count)} of class {name}: add some, or remove the class; each needs {needed}"
        )
    raise DataDamagedError(f"{listing.source} has {_images(count)}: add some, {needed}")


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
