"""The plan of a cached data set: its images in order, their splits, their shape, and the digest of all that."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpo.errors import DataDamagedError, UsageError
from objectives.data_options import DEFAULT_TEST_FRACTION, FITS, LARGEST_SIDE, DataOptions
from objectives.images import entry
from objectives.images.decoding import Geometry
from objectives.images.entry import About
from objectives.images.examination import Examined
from objectives.images.listing import SPLITS, Listing, Picture, check, named
from objectives.images.partition import SplitRules, partition

DIGITS = 16
"""Hexadecimal digits of the digest of a data set."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The content of a cached data set, before it is built."""

    digest: str
    listing: Listing
    """The images that are to be read."""
    rows: Sequence[int]
    """Positions of the images in the listing, in the order in which they are cached."""
    digests: Sequence[str]
    """Digest of the content of each image of the listing."""
    about: About
    unreadable: Sequence[str]
    cropped: float
    """Mean share of the area of the images that is cropped."""


def make_plan(listed: Listing, examined: Sequence[Examined], options: DataOptions) -> Plan:
    """Return the plan of a listing whose files were examined.

    Raises:
        DataDamagedError: images cannot be read and are not to be left out, or the rest cannot be trained on.
    """
    problems = {
        picture.path: one.problem
        for picture, one in zip(listed.pictures, examined, strict=True)
        if one.problem
    }
    if problems and not options.skip_unreadable:
        raise unreadable(listed.source, problems)
    kept = [index for index, one in enumerate(examined) if not one.problem]
    listing = replace(listed, pictures=[listed.pictures[index] for index in kept])
    examined = [examined[index] for index in kept]
    check(listing, "images that can be read" if problems else "images")
    if listing.labels.named:
        _check_left(listed, listing)
    test = DEFAULT_TEST_FRACTION if options.test_fraction is None else options.test_fraction
    rules = SplitRules(test, options.validation_fraction, options.split_seed)
    parts = partition(listing, rules)
    about = About(
        source=str(listed.source),
        classes=listing.classes,
        task=listing.task,
        counts={split: len(parts[split]) for split in SPLITS},
        geometry=_geometry(examined, options),
        made=tuple(split for split in SPLITS[1:] if split not in listing.own_splits),
        skipped=len(problems),
    )
    return Plan(
        digest=_digest(about, rules, listing.pictures, examined),
        listing=listing,
        rows=np.concatenate([parts[split] for split in SPLITS]).tolist(),
        digests=[one.digest for one in examined],
        about=about,
        unreadable=list(problems),
        cropped=_cropped(examined, about.geometry),
    )


def _check_left(listed: Listing, kept: Listing) -> None:
    """Check that each class or label has an image that can be read."""
    lost = [name for name in listed.classes if name not in kept.classes]
    if lost:
        raise DataDamagedError(
            f"{listed.source} has no image of {lost[0]} that can be read: replace its files, or remove them"
        )


def unreadable(source: Path, problems: Mapping[str, str]) -> DataDamagedError:
    """Return the error that images cannot be read, given the reason of each path."""
    files = named([f"{path} ({problem})" for path, problem in problems.items()])
    count = f"{len(problems):,} image{'' if len(problems) == 1 else 's'}"
    return DataDamagedError(
        f"{count} of {source} cannot be read: {files}: replace or remove them, or leave them out with --skip-unreadable"
    )


def _digest(
    about: About, rules: SplitRules, pictures: Sequence[Picture], examined: Sequence[Examined]
) -> str:
    found = hashlib.blake2b(digest_size=DIGITS // 2)
    task = () if about.task == "classes" else (about.task,)
    found.update(repr((entry.FORMAT, about.geometry, about.classes, _made(about, rules), *task)).encode())
    for picture, one in zip(pictures, examined, strict=True):
        found.update(_identity(picture, one))
    return found.hexdigest()


def _made(about: About, rules: SplitRules) -> tuple[object, ...]:
    """Return the rules that made splits."""
    fractions = {"test": rules.test_fraction, "valid": rules.validation_fraction}
    return (*((split, fractions[split]) for split in about.made), rules.seed if about.made else None)


def _identity(picture: Picture, examined: Examined) -> bytes:
    """Return everything of an image that a data set depends on; names from any system are equal."""
    path = unicodedata.normalize("NFC", picture.path)
    return repr((path, picture.label, picture.split, picture.group, examined.digest)).encode(
        errors="surrogateescape"
    )


def _cropped(examined: Sequence[Examined], geometry: Geometry) -> float:
    if geometry.fit != "crop":
        return 0.0
    shape = geometry.width / geometry.height
    ratios = np.array([one.width / one.height / shape for one in examined])
    return float(np.mean(1 - np.minimum(ratios, 1 / ratios)))


def _geometry(examined: Sequence[Examined], options: DataOptions) -> Geometry:
    """Return the shape of all images: the requested one, else their own if they share one, else a square."""
    if options.image_fit not in FITS:
        raise UsageError(f"images cannot be fitted by {options.image_fit!r}: use {', '.join(FITS)}")
    channels = 1 if all(one.grey for one in examined) else 3
    if options.image_size is not None:
        return Geometry(options.image_size, options.image_size, channels, options.image_fit)
    sizes = {(one.height, one.width) for one in examined}
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_SIDE:
        return Geometry(*next(iter(sizes)), channels, options.image_fit)
    short = int(np.median([min(one.height, one.width) for one in examined]))
    side = min(LARGEST_SIDE, max(1, short))
    return Geometry(side, side, channels, options.image_fit)
