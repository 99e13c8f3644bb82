"""Replays kept on disk, because all of them take hours: an interrupted run goes on, and a larger table costs its own.

A file is used again while the table, the contestant's arguments and all code that a replay runs are the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from bench.search.curves import FOLDER as TABLES
from bench.search.scores import Courses

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
CODE = ("bench/search", "hpo/search", "objectives/spaces")
"""Folders whose code decides how a replay ends."""
OTHERS = {"__main__", "cached", "chart", "flatness", "racing", "real", "starts", "tables"}
"""Modules of the benchmark that no replay runs."""

Job = tuple[str, str, str, int, int, int | None]
"""Table, mode, contestant, workers, seeds, and most configurations."""


def cached(search: Callable[[Job], Courses], job: Job, folder: Path = FOLDER) -> Courses:
    """Return the replay of a job, from its file if there is one."""
    table = (TABLES / f"{job[0]}.npz").read_bytes()
    key = hashlib.sha256(repr((job, _code())).encode() + table).hexdigest()[:24]
    path = folder / f"{key}.npz"
    if path.exists():
        with np.load(path) as arrays:
            return Courses(**{name: array.astype(np.float64) for name, array in arrays.items()})
    found = search(job)
    folder.mkdir(exist_ok=True)
    unfinished = folder / f"{key}.{os.getpid()}.tmp"
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **vars(found))
    unfinished.replace(path)
    return found


@cache
def _code() -> str:
    found = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.stem not in OTHERS:
                found.update(path.read_bytes())
    return found.hexdigest()
