"""A data set in the cache: a folder with its pixels and labels, which is complete as soon as it exists.

Images lie in the order training, validation, test: each split, and training with validation for a final run, is a slice
of one file that all processes map and share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data.arrays import Arrays, ChannelStatistics
from objectives.data.statistics import channel_counts, channel_statistics
from objectives.data.targets import Targets
from objectives.data_options import TaskName
from objectives.images.decoding import Geometry
from objectives.images.parallel import Watch

FORMAT = 1
"""Version of the files, and of the rules by which their pixels are made: part of each digest."""

_ROWS = 4096
"""Number of images that are measured between two reports of progress."""

PIXELS, LABELS, PATHS, ABOUT = "images.npy", "labels.npy", "paths.json", "about.json"
GROUPS = "groups.npy"
"""Name of the file of the groups of images, if they have any."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts on a cached data set."""

    source: str
    """Path that its images were read from."""
    classes: tuple[str, ...]
    """Names of classes, labels or targets."""
    task: TaskName = "classes"
    counts: Mapping[str, int]
    """Number of images by split, in the order of the file."""
    geometry: Geometry
    made: tuple[str, ...]
    """Splits that were made, because the source has none of its own."""
    skipped: int = 0
    """Images that could not be read."""
    statistics: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    """Channel statistics of the training images (`train`), and of those with the validation images (`final`)."""

    @property
    def images(self) -> int:
        """Number of images in all splits."""
        return sum(self.counts.values())

    @property
    def bytes(self) -> int:
        """Size of the pixels."""
        height, width, channels = self.geometry.shape
        return self.images * height * width * channels


def write_details(
    folder: Path,
    about: About,
    targets: Targets,
    paths: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> None:
    """Write everything but the pixels."""
    np.save(folder / LABELS, targets, allow_pickle=False)
    if groups is not None:
        np.save(folder / GROUPS, groups, allow_pickle=False)
    (folder / PATHS).write_text(json.dumps(list(paths)), encoding="ascii")
    (folder / ABOUT).write_text(json.dumps(asdict(about)), encoding="ascii")


def about(folder: Path) -> About:
    """Return the facts on a cached data set.

    Raises:
        DataDamagedError: they cannot be read.
    """
    try:
        values = json.loads((folder / ABOUT).read_bytes())
        known = {one.name: values[one.name] for one in fields(About) if one.name in values}
        known["geometry"] = Geometry(**known["geometry"])
        known["classes"], known["made"] = tuple(known["classes"]), tuple(known["made"])
        known["statistics"] = {
            name: (tuple(mean), tuple(std)) for name, (mean, std) in known.get("statistics", {}).items()
        }
        return About(**known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _damaged(folder, exc) from exc


def paths(folder: Path) -> list[str]:
    """Return the path of each image, relative to its source's folder, in the order of the pixels.

    Raises:
        DataDamagedError: they cannot be read.
    """
    try:
        return [str(path) for path in json.loads((folder / PATHS).read_bytes())]
    except (OSError, ValueError) as exc:
        raise _damaged(folder, exc) from exc


def arrays(folder: Path, final: bool) -> Arrays:
    """Map a data set read-only; for a final run, training images include those for validation, and there is a test set.

    Raises:
        DataDamagedError: its files are missing or damaged.
    """
    found = about(folder)
    counts = found.counts
    try:
        # Plain arrays that share the pages of the file.
        x = np.asarray(np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False))
        y = np.load(folder / LABELS, allow_pickle=False)
        if x.dtype != np.uint8 or x.ndim != 4 or not len(x) == len(y) == sum(counts.values()):
            raise ValueError(f"it holds {x.dtype} of {x.shape} and {len(y)} targets")
        groups = np.load(folder / GROUPS, allow_pickle=False) if (folder / GROUPS).exists() else None
    except (OSError, ValueError, EOFError) as exc:
        raise _damaged(folder, exc) from exc
    train, held_out = counts["train"], counts["train"] + counts["valid"]
    last = held_out if final else train
    return Arrays(
        x[:last],
        y[:last],
        x_test=x[held_out:] if final else None,
        y_test=y[held_out:] if final else None,
        x_valid=None if final else x[train:held_out],
        y_valid=None if final else y[train:held_out],
        statistics=found.statistics.get("final" if final else "train"),
        task=found.task,
        classes=found.classes,
        groups=None if groups is None else groups[:last],
    )


def statistics(folder: Path, counts: Mapping[str, int], watch: Watch) -> dict[str, ChannelStatistics]:
    """Return the statistics of the pixels in a folder, once for all processes that will map them."""
    x = np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)
    train, held_out = counts["train"], counts["train"] + counts["valid"]
    totals: dict[str, ChannelStatistics] = {}
    total = np.zeros((x.shape[-1], 256), np.int64)
    for name, first, last in (("train", 0, train), ("final", train, held_out)):
        for start in range(first, last, _ROWS):
            watch("measuring", start, held_out)
            total += channel_counts(x[start : min(start + _ROWS, last)])
        totals[name] = channel_statistics(total)
    return totals


def _damaged(folder: Path, exc: Exception) -> DataDamagedError:
    return DataDamagedError(
        f"cached data set {folder} cannot be read ({' '.join(str(exc).split())}): remove it (hpo data cache --clear"
        f" {folder.name}), and it is made again"
    )
