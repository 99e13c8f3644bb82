"""Stamps of files: equal as long as a file is unchanged, so that its content need not be read again.

The time of the inode (ctime) is part of a stamp, which no program can set: a file that was changed and given its old
time is noticed. As in Git's index, the stamp of a file that was changed moments ago is not kept, because a further
change might bear the same time.
"""

from __future__ import annotations

import time
from pathlib import Path

SETTLED_SECONDS = 2.0
"""Age of a change from which a later one bears another time: the coarsest clocks of file systems have 2 s."""
VALUES = 4
"""Number of values in a stamp: size, two times, and inode."""


def stamp(path: Path) -> list[int] | None:
    """Return size, times in ns and inode of a file; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def is_settled(before: list[int]) -> bool:
    """Return whether a stamp is old enough to be kept."""
    return max(before[1:3]) < (time.time() - SETTLED_SECONDS) * 1e9
