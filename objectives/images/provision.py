"""Images of a source, read by the rules of a study's options into the cache, and mapped from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hpo.errors import DataDamagedError, DataMissingError, UsageError
from objectives.data.arrays import Arrays, without_test
from objectives.data_options import DataOptions
from objectives.images import entry, folders, tables
from objectives.images.build import UndecodableError, build
from objectives.images.cache import Cache
from objectives.images.entry import About
from objectives.images.examination import Examinations, Examined
from objectives.images.labels import LABELS
from objectives.images.listing import Listing, Picture, check
from objectives.images.parallel import Watch, ignore
from objectives.images.plan import make_plan


@dataclass(frozen=True)
class Provided:
    """A data set in the cache, in use."""

    digest: str
    about: About
    ignored: Sequence[str] = ()
    """Files next to the images that are not images by their names."""
    unreadable: Sequence[str] = ()
    """Images that were left out, because they cannot be read."""
    cropped: float = 0.0
    """Mean share of the area of the images that is cropped."""


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A data set in the cache, in use, and the files that its source lists."""

    provided: Provided
    pictures: Sequence[Picture]
    examined: Sequence[Examined]
    """Result of each picture's file, those that cannot be read included."""


@contextmanager
def provided(options: DataOptions, cache: Cache, watch: Watch = ignore) -> Iterator[Provided]:
    """Read the images of `options.source`, decode them unless they are cached, and keep them in use within this block.

    Raises:
        UsageError: the options do not fit the source.
        DataMissingError: there is no such folder or table.
        DataDamagedError: no classifier can be trained on it, or images cannot be read.
        DiskFullError, FileNotWritableError: the cache has no room, or cannot be written.
    """
    with ExitStack() as stack:
        # The names of a million files are not kept while a study runs.
        yield _survey(options, cache, watch, stack).provided


@contextmanager
def surveyed(options: DataOptions, cache: Cache, watch: Watch = ignore) -> Iterator[Surveyed]:
    """Provide a data set as `provided` does, with the facts on each file of its source."""
    with ExitStack() as stack:
        yield _survey(options, cache, watch, stack)


def _survey(options: DataOptions, cache: Cache, watch: Watch, stack: ExitStack) -> Surveyed:
    listed = read(options)
    problems: dict[str, str] = {}
    while True:
        examined = _examine(listed, cache, watch, problems)
        plan = make_plan(listed, examined, options)
        write = partial(build, plan=plan, watch=watch)
        try:
            stack.enter_context(cache.used(plan.digest, plan.about.bytes, write, watch))
        except UndecodableError as exc:
            # They are known from now on: if they are to be left out, the others make another data set.
            problems |= exc.problems
        else:
            found = Provided(plan.digest, plan.about, listed.ignored, plan.unreadable, plan.cropped)
            return Surveyed(provided=found, pictures=listed.pictures, examined=examined)


def mapped(options: DataOptions, final: bool) -> tuple[Arrays, tuple[str, ...]]:
    """Return the images of a study and the names of their classes, mapped from the cache of this host.

    Where `options.digest` names none that is cached, they are read from `options.source` first.

    Raises:
        UsageError: there is no cache folder.
        HpoError: as `provided`.
    """
    if options.cache_dir is None:
        raise UsageError("DataOptions(source=...) needs a cache_dir: name a folder for the decoded images")
    cache = Cache(Path(options.cache_dir))
    # Anyone may have written a configuration: a digest is not a path.
    if options.digest.isalnum() and cache.entry(options.digest).is_dir():
        return _mapped(cache.entry(options.digest), options, final)
    with provided(options, cache) as found:
        return _mapped(cache.entry(found.digest), options, final)


def _mapped(folder: Path, options: DataOptions, final: bool) -> tuple[Arrays, tuple[str, ...]]:
    about = entry.about(folder)
    if options.folds is not None and not final and "valid" in about.made:
        # Folds hold out rows of all images but the test images.
        return without_test(entry.arrays(folder, final=True), unless=False), about.classes
    return entry.arrays(folder, final), about.classes


def read(options: DataOptions) -> Listing:
    """Return the checked listing of `options.source`.

    Raises:
        UsageError, DataMissingError, DataDamagedError: as `provided`.
    """
    source = Path(options.source or "")
    try:
        is_folder, is_file = source.is_dir(), source.is_file()
    except OSError as exc:
        raise DataDamagedError(f"{source} cannot be read ({exc.strerror or exc}): allow it") from exc
    if is_folder:
        if not LABELS[options.task or "classes"].single:
            raise UsageError(
                f"task {options.task} needs a table of images, and {source} has a folder for each class: give a table"
                f" path,label with --data, and --task {options.task}"
            )
        found = replace(folders.read(source), task=options.task or "classes")
    elif is_file and source.suffix.lower() in tables.EXTENSIONS:
        found = tables.read(source, options.task or "classes")
    elif is_file:
        raise DataDamagedError(
            f"{source} is not a table of images: give a folder, a table {' or '.join(tables.EXTENSIONS)}, or"
            " arrays (.npz)"
        )
    else:
        raise DataMissingError(f"there is no folder or file {source}: give the place of the data with --data")
    check(found, "images")
    if "test" in found.own_splits and options.test_fraction is not None:
        raise UsageError(f"{source} has a test split of its own: leave --test-fraction out")
    return found


def _examine(listed: Listing, cache: Cache, watch: Watch, undecodable: Mapping[str, str]) -> list[Examined]:
    """Return the result of each file; `undecodable` are reasons that are known since."""
    source = os.fsencode(os.path.realpath(listed.source))
    name = f"files-{hashlib.blake2b(source, digest_size=8).hexdigest()}"
    with cache.exclusive(name, watch):
        examinations = Examinations.read(cache.folder / f"{name}.json")
        found = examinations.examine(listed, watch)
        examinations.note_undecodable(listed, undecodable)
        examinations.write([picture.path for picture in listed.pictures])
    return [
        replace(one, problem=one.problem or undecodable.get(picture.path, ""))
        for picture, one in zip(listed.pictures, found, strict=True)
    ]
