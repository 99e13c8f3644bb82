"""Data of a study's own, read before any process trains: images into a cache, where they stay while in use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from hpo import formatting
from hpo.settings import Settings
from hpo.terminal.work_progress import WorkProgress
from objectives.data import array_files, array_source
from objectives.data_options import DEFAULT_TEST_FRACTION, DataOptions
from objectives.images.cache import Cache
from objectives.images.entry import About
from objectives.images.listing import TITLES, named
from objectives.images.parallel import Watch
from objectives.images.provision import Provided, provided

log = logging.getLogger(__name__)

_MOST_CLASSES = 10
"""Number of classes that a line names."""
_MUCH = 0.3
"""Mean share of the area of images from which a line reports that it is cropped; photos of 4:3 lose 25 %."""


def image_cache(settings: Settings) -> Cache:
    """Return the cache of this host."""
    return Cache(settings.cache_dir, settings.cache_bytes)


@contextmanager
def images_in_use(
    data: DataOptions, settings: Settings, check: Callable[[], None] = lambda: None
) -> Iterator[DataOptions]:
    """Read the data that the options name, if any; yield the options with their digest and this host's cache.

    `check` is called a few times a second and may raise to end the reading.

    Raises:
        HpoError: as `objectives.images.provision.provided`.
    """
    if data.source is None:
        yield data
        return
    settings.make_home()
    if array_files.is_array_data(Path(data.source)):
        yield replace(data, digest=_array_digest(data, settings, check), cache_dir=str(settings.cache_dir))
        return
    progress = WorkProgress("images")
    watch = _watching(progress, check)
    with ExitStack() as stack:
        try:
            found = stack.enter_context(provided(data, image_cache(settings), watch))
        finally:
            progress.close()
        for line in lines(found, data):
            log.info(line)
        if found.unreadable:
            count = formatting.counted(len(found.unreadable), "image")
            log.warning(f"{count} cannot be read and will be left out: {named(found.unreadable)}")
        yield replace(data, digest=found.digest, cache_dir=str(settings.cache_dir))


def _watching(progress: WorkProgress, check: Callable[[], None]) -> Watch:
    def watch(stage: str, done: int, total: int) -> None:
        check()
        progress.update(stage, done, total)

    return watch


def _array_digest(data: DataOptions, settings: Settings, check: Callable[[], None]) -> str:
    """Return the digest of arrays, and log their contents; the template reads and checks them."""
    progress = WorkProgress("MiB")
    try:
        found = array_source.survey(data, settings.cache_dir, _watching(progress, check))
    finally:
        progress.close()
    counts = ", ".join(f"{count:,} {TITLES[split]}" for split, count in found.contents.rows.items())
    shapes = ", ".join(f"{name or 'x'} ({shape})" for name, shape in found.contents.inputs.items())
    log.info(f"{data.source}: {counts} rows of {shapes}")
    if found.makes_test:
        log.info(_made_test(data, "rows"))
    return found.digest


def _counts(about: About, data: DataOptions) -> str:
    """Return the number of images of each split; those that folds train on and hold out are one."""
    counts = dict(about.counts)
    if data.folds is None or "valid" not in about.made:
        return ", ".join(f"{count:,} {TITLES[split]}" for split, count in counts.items())
    pool = counts["train"] + counts.pop("valid")
    folds = f"{pool:,} in {data.folds} folds, each of which is held out once to validate"
    return ", ".join(
        [folds, *(f"{count:,} {TITLES[split]}" for split, count in counts.items() if split == "test")]
    )


def _made_test(data: DataOptions, examples: str) -> str:
    fraction = DEFAULT_TEST_FRACTION if data.test_fraction is None else data.test_fraction
    return (
        f"there is no test split, so {100 * fraction:.3g} % of the {examples} are held out as one (--test-fraction):"
        " only hpo retrain opens it"
    )


def _targets(about: About) -> str:
    names = ", ".join(about.classes[:_MOST_CLASSES]) + (", …" if len(about.classes) > _MOST_CLASSES else "")
    count = len(about.classes)
    match about.task:
        case "labels":
            return f"with {formatting.counted(count, 'label')} ({names})"
        case "regression":
            return f"with {formatting.counted(count, 'number')} to predict ({names})"
        case "binary":
            return f"of 2 classes ({names}; {about.classes[1]} is positive)"
        case "classes":
            return f"of {count} classes ({names})"


def lines(found: Provided, data: DataOptions) -> list[str]:
    """Return the facts on images that have been read, for the log."""
    about = found.about
    shape = about.geometry
    counts = _counts(about, data)
    colour = "grey" if shape.channels == 1 else "in colour"
    shown = [
        f"{about.source}: {about.images:,} images {_targets(about)},"
        f" {shape.height}×{shape.width}, {colour}: {counts}"
    ]
    if "test" in about.made:
        shown.append(_made_test(data, "images"))
    if found.cropped > _MUCH:
        shown.append(
            f"images lose {100 * found.cropped:.0f} % of their area on average when they are cropped to"
            f" {shape.height}×{shape.width}: set --image-fit pad or stretch to keep their edges"
        )
    if found.ignored:
        shown.append(f"{formatting.counted(len(found.ignored), 'other file')}: {named(found.ignored)}")
    return shown
