"""The socket of an embedded server: its folder, which no other user may enter, and the user that listens on it."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import struct
import tempfile
from pathlib import Path

from hpo.errors import EmbeddedServerError
from storage.embedded import paths

# The kernel's limit is 108 bytes on Linux and 104 on macOS, its final NUL included.
_LONGEST_PATH = 102


def usable(folder: Path) -> bool:
    """Whether libpq and PostgreSQL's settings accept a socket in this folder."""
    longest = os.fsencode(folder / f"{paths.SOCKET}.lock")
    return len(longest) <= _LONGEST_PATH and re.fullmatch(r"[\w./+-]+", str(folder), re.ASCII) is not None


def make_folder(noted: str | None) -> Path:
    """Return the folder that a home has noted if it is still private, else a new one under an unpredictable name.

    Not in $TMPDIR: its path may be too long.
    """
    if noted is not None and problem(Path(noted)) is None:
        return Path(noted)
    folder = Path(tempfile.mkdtemp(prefix="hpo-", dir="/tmp"))
    paths.own(folder)
    return folder


def problem(folder: Path) -> str | None:
    """Return why other users may have put a socket into `folder`; None if only the server's user can."""
    try:
        found = folder.lstat()
    except OSError as exc:
        return exc.strerror or str(exc)
    if not stat.S_ISDIR(found.st_mode):
        return "not a folder"
    if found.st_uid != paths.server_user():
        return "it belongs to another user"
    if found.st_mode & 0o077:
        return "other users may enter it"
    return None


def refuse_foreign(folder: Path) -> None:
    """Raise EmbeddedServerError if another user may have put a socket into `folder`, or listens on the one in it."""
    reason = problem(folder)
    listener = _listener(folder / paths.SOCKET) if reason is None else None
    if listener is not None and listener != paths.server_user():
        reason = "another user's process listens in it"
    if reason is not None:
        raise EmbeddedServerError(
            f"the folder {folder} of the embedded PostgreSQL's socket is not safe ({reason}): end every hpo of"
            f" this home, remove that folder, {paths.ELSEWHERE}"
        )


def answers(path: Path) -> bool:
    """Whether a server listens on this socket."""
    return connect_error(path) is None


def connect_error(path: Path) -> int | None:
    """Return the error number of a connection to this socket; None if a server listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return None
        except OSError as exc:
            return exc.errno or errno.ECONNREFUSED
    return None


def _listener(path: Path) -> int | None:
    """Return the uid of the process that listens on a socket; None if nobody does, or outside Linux."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid: int = struct.unpack("3i", credentials)[1]
        return uid
