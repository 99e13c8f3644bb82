"""A small disk that a test can fill."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

SIZE = "24m"


class SmallDisk:
    """A file system in memory, if this user may mount one; else an ordinary folder."""

    def __init__(self, folder: Path, small: bool) -> None:
        """Mount a small disk if `small` is true and this user may."""
        folder.mkdir()
        self.folder = folder
        self.small = small and os.getuid() == 0 and _mount(folder)
        """Whether it can be filled."""
        self._filler = folder / "filler"

    @property
    def full(self) -> bool:
        return self._filler.exists()

    def fill(self) -> None:
        """Write until no space is left."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(folder)]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False
