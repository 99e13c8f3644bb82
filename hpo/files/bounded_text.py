"""Text files that a user names: read up to a size, because a device or a pipe may never end."""

from __future__ import annotations

import errno
from pathlib import Path


def read_text(path: Path, most: int, encoding: str = "utf-8") -> str:
    """Return the content of a file with at most `most` bytes.

    Raises:
        OSError: the file cannot be read or is longer.
        UnicodeDecodeError: it is not of that encoding.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most} bytes")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
