"""Training, validation and test images of a listing: its own splits, and those that are made where it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data.stratification import Indices, held_out, strata
from objectives.images.listing import SPLITS, TITLES, Listing


@dataclass(frozen=True)
class SplitRules:
    """The fractions and the seed by which splits are made."""

    test_fraction: float
    """Share of all images that a test split gets, where the source has none."""
    validation_fraction: float
    """Share of the training images that a validation split gets, where the source has none."""
    seed: int


def partition(listing: Listing, rules: SplitRules) -> dict[str, Indices]:
    """Return the positions of the images of each split, those that are made stratified by class and not across groups.

    Raises:
        DataDamagedError: the groups leave a class without training images.
    """
    own = listing.own_splits
    splits = np.array([picture.split or "train" for picture in listing.pictures])
    found = {split: np.flatnonzero(splits == split) for split in SPLITS}
    kinds, groups = strata(listing.targets, listing.task), group_numbers(listing)
    # A generator for each, so that a split does not depend on whether the other is made.
    for number, (split, fraction) in enumerate(
        (("test", rules.test_fraction), ("valid", rules.validation_fraction))
    ):
        if split in own:
            continue
        rng = np.random.default_rng([rules.seed, number])
        pool = found["train"]
        # An image of each class is left for each of the splits that are taken from the rest.
        spare = 1 + (split == "test" and "valid" not in own)
        chosen = held_out(kinds[pool], fraction, rng, None if groups is None else groups[pool], spare)
        found[split] = pool[chosen]
        found["train"] = np.delete(pool, chosen)
        if listing.labels.single:
            _check_classes(listing, kinds, found, split)
        elif not len(chosen):
            raise DataDamagedError(
                f"{listing.source} leaves no {TITLES[split]} image, because a group is never divided: give smaller"
                " groups, or a split to each image"
            )
    return found


def group_numbers(listing: Listing) -> NDArray[np.int64] | None:
    """Return the number of the group of each image; None if all are groups of their own."""
    if all(picture.group is None for picture in listing.pictures):
        return None
    numbers: dict[tuple[bool, str], int] = {}
    return np.array(
        [
            numbers.setdefault(
                (True, picture.path) if picture.group is None else (False, picture.group), len(numbers)
            )
            for picture in listing.pictures
        ],
        np.int64,
    )


def _check_classes(listing: Listing, labels: NDArray[np.int64], found: dict[str, Indices], made: str) -> None:
    for split in ("train", made):
        absent = sorted(set(range(len(listing.classes))) - set(labels[found[split]].tolist()))
        if absent:
            raise DataDamagedError(
                f"{listing.source} leaves no {TITLES[split]} image of class {listing.classes[absent[0]]}, because a"
                " group is never divided: give smaller groups, or a split to each image"
            )
