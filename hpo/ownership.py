"""Folders that no other user may enter, and the check whether other users may change a path.

This module imports nothing of the project, so that `storage` may use it too.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_OF_HOMES = (
    "postgres",
    ".postgres",
    "cache",
    "checkpoints",
    "compiled",
    "crashes",
    "data",
    "logs",
    "objectives",
)
"""First parts of the names of all that the service keeps in a home."""

_MOST_LINKS = 40
"""Number of links after which Linux gives up too."""


def make_private_folder(folder: Path, group: int | None = None) -> None:
    """Create `folder` and its parents unless it exists; members of `group` may enter it, but not list it.

    It appears with its final mode, because processes that start at the same time may use it at once. A home that an
    earlier version created for all to read becomes private.
    """
    if folder.exists():
        # Root without a group does not know the server's user, who may have to enter it.
        if (group is not None or os.geteuid() != 0) and _is_open_home(folder):
            _make_private(folder, group)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _make_private(fresh, group)
        fresh.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        # Another process was first.
        with suppress(OSError):
            fresh.rmdir()


def open_private(path: Path, flags: int) -> int:
    """Open a file that only its user can read, created if it is missing; raise OSError if it is a link."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _make_private(folder: Path, group: int | None) -> None:
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(0o700 if group is None else 0o710)


def _is_open_home(folder: Path) -> bool:
    """Whether others may enter a folder that is yours, that nobody else writes, and that only the service uses."""
    found = folder.stat()
    if not found.st_mode & 0o007 or found.st_uid != os.geteuid() or other_writers(folder) is not None:
        return False
    names = [path.name for path in folder.iterdir()]
    return bool(names) and all(name.startswith(_OF_HOMES) for name in names)


def other_writers(path: Path) -> str | None:
    """Return which other users may change `path` itself, its links followed; None if only you and root may."""
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to {_user_name(found.st_uid)}"
    if found.st_mode & stat.S_IWOTH:
        return "may be written by every user"
    if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid):
        return f"may be written by the group {_group_name(found.st_gid)}"
    return None


def replaceable_by_others(file: Path) -> str | None:
    """Return which other users may change or replace `file`, or a folder or link on the way to it; None if nobody may.

    A file on a file system mounted read-only is as the mount sets it, for example in a container.

    Raises:
        OSError: a part of the path does not exist, or its links form a circle.
    """
    for path in _way_to(file):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            if found.st_uid not in (os.geteuid(), 0):
                return f"{path} belongs to {_user_name(found.st_uid)}"
        elif not os.statvfs(path).f_flag & os.ST_RDONLY and not _only_own_files(found):
            reason = other_writers(path)
            if reason is not None:
                return f"{path} {reason}"
    return None


def _only_own_files(found: os.stat_result) -> bool:
    """Whether it is a folder such as /tmp, in which each user may rename and delete own files only."""
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return bool(sticky) and found.st_uid in (0, os.geteuid())


def _way_to(file: Path) -> Iterator[Path]:
    """Yield the folders and links that the kernel goes through to `file`, and the file."""
    current, left, links = Path("/"), [*reversed(file.absolute().parts[1:])], 0
    yield current
    while left:
        part = left.pop()
        if part == "..":
            current = current.parent
            continue
        current /= part
        yield current
        if current.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = current.readlink()
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            current = Path("/") if target.is_absolute() else current.parent


def _is_private_group(gid: int) -> bool:
    """Whether it is root's group, or the group of your own that many systems give to each user."""
    if gid == 0:
        return True
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


def _user_name(uid: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the id {uid}"


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
