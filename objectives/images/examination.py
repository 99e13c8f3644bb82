"""Examination of the files of a source: a digest of each one's content, its size, and whether it can be read.

Results are kept with the stamps of the files, so that one is read again only if it has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import PIL

from objectives.data.stamps import VALUES, is_settled, stamp
from objectives.images import parallel
from objectives.images.decoding import UnreadableError, header
from objectives.images.listing import Listing
from objectives.images.parallel import Watch

_DIGEST_BYTES = 16
_VERSION = [2, PIL.__version__]
"""Version of kept results; another version of Pillow may read other files."""


@dataclass(frozen=True)
class Examined:
    """The content of one file."""

    digest: str
    width: int = 0
    """Pixels as it is shown."""
    height: int = 0
    grey: bool = False
    problem: str = ""
    """Reason why it cannot be read; empty if it can."""
    format: str = ""
    """Pillow's name of the format."""
    mode: str = ""
    """Pillow's name of the colour mode."""


@dataclass
class Examinations:
    """Results by path, kept in a file."""

    file: Path
    _kept: dict[str, list[Any]]
    """Size, times and inode, then the fields of `Examined`, by path."""
    _changed: bool = False

    @classmethod
    def read(cls, file: Path) -> Examinations:
        """Return the kept results; none if there is no valid file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(file.read_bytes())
            if content["version"] == _VERSION:
                return cls(file, dict(content["files"]))
        return cls(file, {})

    def examine(self, listing: Listing, watch: Watch) -> list[Examined]:
        """Return the result of each image of a listing, in its order."""
        found: dict[str, Examined] = {}
        unknown: list[str] = []
        for picture in listing.pictures:
            now = stamp(listing.folder / picture.path)
            kept = self._kept.get(picture.path)
            if now is not None and kept is not None and kept[:VALUES] == now:
                found[picture.path] = Examined(*kept[VALUES:])
            else:
                unknown.append(picture.path)

        def work(path: str) -> tuple[list[int] | None, Examined]:
            return _examined(listing.folder / path)

        for path, (found_stamp, examined) in parallel.mapped(work, unknown, "examining", watch):
            found[path] = examined
            self._keep(path, found_stamp, examined)
        return [found[picture.path] for picture in listing.pictures]

    def note_undecodable(self, listing: Listing, problems: Mapping[str, str]) -> None:
        """Note the reasons why the content of files cannot be decoded, by path."""
        for path, problem in problems.items():
            kept = self._kept.get(path)
            if kept is not None and kept[:VALUES] == stamp(listing.folder / path):
                self._keep(path, kept[:VALUES], replace(Examined(*kept[VALUES:]), problem=problem))

    def write(self, paths: Sequence[str]) -> None:
        """Write the results of these paths, atomically; a file that cannot be written costs only time later."""
        kept = {path: self._kept[path] for path in paths if path in self._kept}
        if not self._changed and len(kept) == len(self._kept):
            return
        partial = self.file.with_name(f"{self.file.name}.{os.getpid()}.partial")
        with suppress(OSError):
            try:
                partial.write_text(json.dumps({"version": _VERSION, "files": kept}), encoding="ascii")
                partial.replace(self.file)
            finally:
                partial.unlink(missing_ok=True)

    def _keep(self, path: str, at: list[int] | None, examined: Examined) -> None:
        self._changed = True
        self._kept.pop(path, None)
        if at is not None:
            self._kept[path] = [*at, *vars(examined).values()]


def content(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        # A pipe would be waited for, and a device has no end.
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableError("it is not a regular file")
            return file.read()
    except OSError as exc:
        raise UnreadableError(exc.strerror or type(exc).__name__) from exc
    except ValueError as exc:
        raise UnreadableError(str(exc)) from exc


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def digest(read: bytes) -> str:
    """Return the digest of a file's content."""
    return hashlib.blake2b(read, digest_size=_DIGEST_BYTES).hexdigest()


def _examined(path: Path) -> tuple[list[int] | None, Examined]:
    """Return the result of a file, and its stamp if it may be kept."""
    before = stamp(path)
    found = ""
    try:
        read = content(path)
        found = digest(read)
        shown = header(read)
        examined = Examined(found, **asdict(shown))
    except UnreadableError as exc:
        examined = Examined(found, problem=str(exc))
    settled = before is not None and is_settled(before)
    return (before if found and settled and before == stamp(path) else None), examined
