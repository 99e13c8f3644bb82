"""The data of an objective as one line: source, number of images, and a digest of their content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from objectives.base import DataOptions
from objectives.data import datasets, inputs
from objectives.data.splits import Data

DIGITS = 12
"""Hexadecimal digits of a digest."""

MOST_BYTES = 1 << 28
"""Bytes of an array from which only some of its images are digested, evenly spread: a second at most."""


def describe(source: str | Callable[[], Any] | None, options: DataOptions, data: Data) -> str:
    """Return the description of data that were loaded from `source`."""
    valid = f" and {inputs.count(data.x_valid):,} validation" if inputs.count(data.x_valid) else ""
    examples = "images" if inputs.is_images(data.x_train) else "rows"
    folds = f" in {len(data.folds)} folds" if data.folds else ""
    limit = "" if options.limit is None else f", limited to {options.limit:,}"
    limit += "" if data.has_test else _UNTESTED
    # Data that are given with --data have a digest of all their files.
    found = options.digest if source is None and options.digest else digest(data)
    if data.task == "binary":
        limit += f", {data.classes[1]} is positive"
    count = f"{inputs.count(data.x_train):,} training{valid} {examples}"
    return f"{_name(source, options)}: {count}{folds}{limit}, digest {found}"


_UNTESTED = ", without a test set"
_COUNTS = re.compile(
    r".*: ([\d,]+) training(?: and ([\d,]+) validation)? \w+( in \d+ folds)?"
    rf"(?:, limited to \d+(?:,\d+)*)?({_UNTESTED})?",
    re.DOTALL,
)


def validated(description: str) -> int | None:
    """Return the number of rows on which the trials of described data are validated, all of them in folds."""
    found = _COUNTS.match(description)
    if found is None:
        return None
    count = found[1] if found[3] else found[2]
    return None if count is None else int(count.replace(",", ""))


def has_test_set(description: str) -> bool:
    """Return whether described data have a test set, as all data whose description does not deny it."""
    found = _COUNTS.match(description)
    return found is None or found[4] is None


def digest(data: Data) -> str:
    """Return a digest of the training and validation inputs and their targets, equal for equal data on any host."""
    found = hashlib.sha256()
    for part in (data.x_train, data.y_train, data.x_valid, data.y_valid):
        for name, array in inputs.each(part).items():
            found.update(f"{name}{array.dtype.str}{array.shape}".encode())
            chosen = array[:: -(-array.nbytes // MOST_BYTES) or 1]
            for rows in inputs.ranges(chosen):
                found.update(inputs.buffer(chosen[rows]))
    return found.hexdigest()[:DIGITS]


def _name(source: str | Callable[[], Any] | None, options: DataOptions) -> str:
    if source is None:
        return options.source or ""
    if isinstance(source, str):
        return datasets.location(source, options.data_dir)
    # Without the folder, which differs between hosts.
    module = re.sub(r"^hpo\.user_code\.[^.]*\.", "", getattr(source, "__module__", "?"))
    return f"{module}.{getattr(source, '__qualname__', type(source).__name__)}"
