"""Arrays that a study is given with --data: their shapes, and a digest of their content and split rules."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import DataDamagedError, UsageError
from objectives.data import array_files
from objectives.data.array_files import Contents
from objectives.data.arrays import Arrays
from objectives.data.inputs import BLOCK_BYTES
from objectives.data.stamps import is_settled, stamp
from objectives.data_options import DEFAULT_TEST_FRACTION, DataOptions, TaskName

DIGITS = 16
"""Hexadecimal digits of a digest, as of images."""

Watch = Callable[[str, int, int], None]
"""Observer of long work: a stage, and the pieces of it that are complete, of a total."""


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """Arrays of a study's own, as they are now."""

    digest: str
    contents: Contents

    @property
    def makes_test(self) -> bool:
        """Whether a test split is made, because there is none."""
        return "test" not in self.contents.rows


def survey(options: DataOptions, cache: Path, watch: Watch = lambda *_: None) -> ArraySource:
    """Return shapes and digest of the arrays of `options.source`; digests of unchanged files are remembered in `cache`.

    Raises:
        UsageError: an option applies to image files alone, or there is a test split already.
        DataDamagedError: a file cannot be read.
    """
    source = Path(options.source or "")
    for option, given in (
        ("--image-size", options.image_size is not None),
        ("--image-fit", options.image_fit != DataOptions.image_fit),
        ("--skip-unreadable", options.skip_unreadable),
    ):
        if given:
            raise UsageError(f"{option} applies to image files, and {source} holds arrays: leave it out")
    found = array_files.contents(source)
    if "test" in found.rows and options.test_fraction is not None:
        raise UsageError(f"{source} has a test split of its own: leave --test-fraction out")
    return ArraySource(digest=_digest(found, options, cache, watch), contents=found)


def loaded(options: DataOptions, task: TaskName, names: Sequence[str] | None, final: bool) -> Arrays:
    """Return the arrays of `options.source`.

    Raises:
        DataDamagedError: they are invalid, or were changed since `options.digest` was made.
    """
    folder = None if options.cache_dir is None else Path(options.cache_dir)
    source = Path(options.source or "")
    if folder is not None and options.digest and survey(options, folder).digest != options.digest:
        raise DataDamagedError(
            f"{source} was changed since it was read for this study: restore it, or end the study's agents and run hpo"
            " launch again"
        )
    return array_files.read(source, names, final, task, folder)


def _digest(found: Contents, options: DataOptions, cache: Path, watch: Watch) -> str:
    digest = hashlib.blake2b(digest_size=DIGITS // 2)
    made: list[object] = [options.task]
    if "test" not in found.rows:
        made.append(
            ("test", DEFAULT_TEST_FRACTION if options.test_fraction is None else options.test_fraction)
        )
    if "valid" not in found.rows:
        made.append(("valid", options.validation_fraction))
    digest.update(repr((*made, options.split_seed if len(made) > 1 else None)).encode())
    place = hashlib.blake2b(os.fsencode(os.path.realpath(options.source or "")), digest_size=8).hexdigest()
    kept = _Kept(cache / f"files-{place}.arrays.json")
    for file in found.files:
        digest.update(f"{file.name} {kept.digest(file, watch)} ".encode(errors="surrogateescape"))
    kept.write()
    return digest.hexdigest()


class _Kept:
    """Digests of files, kept with their stamps."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: Mapping[str, Sequence[object]] = {}
        self._now: dict[str, Sequence[object]] = {}
        with suppress(OSError, ValueError, TypeError):
            self._known = dict(json.loads(file.read_bytes()))

    def digest(self, file: Path, watch: Watch) -> str:
        """Return the digest of a file's content.

        Raises:
            DataDamagedError: it cannot be read.
        """
        before = stamp(file)
        known = self._known.get(str(file), ())
        unchanged = before is not None and list(known[:-1]) == before
        found = str(known[-1]) if unchanged else _hashed(file, watch)
        if before is not None and is_settled(before) and stamp(file) == before:
            self._now[str(file)] = [*before, found]
        return found

    def write(self) -> None:
        """Write the digests, atomically; a file that cannot be written costs only time later."""
        if self._now == self._known:
            return
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._now), encoding="ascii")
            partial.replace(self._file)


def _hashed(file: Path, watch: Watch) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        total = file.stat().st_size
        with file.open("rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                digest.update(block)
                watch("reading", opened.tell() >> 20, total >> 20)
    except OSError as exc:
        raise DataDamagedError(f"{file} cannot be read ({exc.strerror or exc}): allow it") from exc
    return digest.hexdigest()
