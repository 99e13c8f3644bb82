"""Folders that no other user may enter, and the check whether other users may change a path.

This module imports nothing of the project, so that `storage` may use it too.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def make_private_folder(folder: Path, group: int | None = None) -> None:
    """Create `folder` and its parents unless it exists; members of `group` may enter it, but not list it.

    It appears with its final mode, because processes that start at the same time may use it at once.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        if group is not None:
            os.chown(fresh, -1, group)
            fresh.chmod(0o710)
        fresh.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        # Another process was first.
        with suppress(OSError):
            fresh.rmdir()


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
    """Return which other users may change `file` or replace it, or a folder above it; None if only you and root may.

    A file on a file system mounted read-only is as whoever mounted it chose, for example in a container.
    """
    resolved = file.resolve()
    if os.statvfs(resolved).f_flag & os.ST_RDONLY:
        return None
    for path in (resolved, *resolved.parents):
        found = path.stat()
        # In a folder such as /tmp, each user may rename and delete own files only.
        if path != resolved and found.st_mode & stat.S_ISVTX and found.st_uid in (0, os.geteuid()):
            continue
        reason = other_writers(path)
        if reason is not None:
            return f"{path} {reason}"
    return None


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
