"""Decoding of a planned data set into the files of its cache entry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpo.errors import DataDamagedError
from objectives.images import entry, parallel
from objectives.images.decoding import UnreadableError, pixels
from objectives.images.examination import content, digest
from objectives.images.parallel import Watch
from objectives.images.partition import group_numbers
from objectives.images.plan import Plan

_CHANGED = "changed"


class UndecodableError(Exception):
    """Images could not be decoded."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__()
        self.problems = problems
        """The reason of each path."""


def build(folder: Path, plan: Plan, watch: Watch) -> None:
    """Write a data set into an empty folder.

    Raises:
        OSError: it cannot be written.
        DataDamagedError: a file was changed meanwhile.
        UndecodableError: images cannot be decoded.
    """
    about, listing = plan.about, plan.listing
    shape = about.geometry.shape
    length = int(np.prod(shape))
    with (folder / entry.PIXELS).open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (about.images, *shape)}
        )
        file.flush()
        start, descriptor = file.tell(), file.fileno()
        # Reserved at once, so that a full disk is noticed now.
        os.posix_fallocate(descriptor, 0, start + about.images * length)

        def work(item: tuple[int, int]) -> str:
            row, index = item
            try:
                found = content(listing.folder / listing.pictures[index].path)
                if digest(found) != plan.digests[index]:
                    return _CHANGED
                os.pwrite(descriptor, pixels(found, about.geometry).data, start + row * length)
            except UnreadableError as exc:
                return str(exc)
            return ""

        problems: dict[str, str] = {}
        for (_, index), problem in parallel.mapped(work, list(enumerate(plan.rows)), "decoding", watch):
            path = listing.pictures[index].path
            if problem is _CHANGED:
                raise DataDamagedError(
                    f"{listing.folder / path} was changed while images were read: run the command again when the files"
                    " are complete"
                )
            if problem:
                problems[path] = problem
    if problems:
        raise UndecodableError(problems)
    paths = [listing.pictures[index].path for index in plan.rows]
    about = replace(about, statistics=entry.statistics(folder, about.counts, watch))
    groups = group_numbers(listing)
    entry.write_details(
        folder, about, listing.targets[plan.rows], paths, None if groups is None else groups[plan.rows]
    )
