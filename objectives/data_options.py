"""The options by which a study chooses its data."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any, Literal, get_args

Fit = Literal["crop", "pad", "stretch"]
"""How images of another shape get the shape of a data set."""
FITS: tuple[Fit, ...] = get_args(Fit)

TaskName = Literal["classes", "labels", "binary", "regression"]
"""Kind of target: one of several classes, several labels at once, one of two classes, or numbers."""
TASKS: tuple[TaskName, ...] = get_args(TaskName)

DEFAULT_TEST_FRACTION = 0.2
LARGEST_SIDE = 64
"""Largest height and width that images get unless a size is requested."""

_OF_GIVEN_DATA = ("source", "task", "image_size", "image_fit", "test_fraction", "skip_unreadable", "digest")
"""Names of the options that apply to data of `--data` alone."""


@dataclass(frozen=True)
class DataOptions:
    """The part of a data set that a study trains on."""

    data_dir: str | None = None
    """Folder that holds `<name>.npz`; None: only bundled or downloaded data."""
    limit: int | None = None
    """Number of training examples to use, stratified by class; validation examples in proportion. None: all."""
    validation_fraction: float = 0.1
    """Share of the training examples that is held out to select models."""
    split_seed: int = 0
    """Seed of the splits that are made; the same for every trial of a study."""
    _: KW_ONLY
    folds: int | None = None
    """Number of folds in which each trial is cross-validated; None: one split. Final runs have none."""
    source: str | None = None
    """Folder or table of images, or folder or file of arrays, for objectives without a data set."""
    task: TaskName | None = None
    """Task that this data is for; None: the objective's."""
    image_size: int | None = None
    """Height and width that images of `source` get; None: chosen by their own sizes."""
    image_fit: Fit = "crop"
    """Rule that fits images of another shape into this size."""
    test_fraction: float | None = None
    """Share of the rows of `source` that becomes the test set if it has none of its own; None: a default."""
    skip_unreadable: bool = False
    """Whether images that cannot be read are left out."""
    digest: str = ""
    """Digest of this data as the study's trials see it; empty: not known."""
    cache_dir: str | None = None
    """Folder of this host for decoded images, and for files of large arrays."""

    def to_json(self) -> dict[str, Any]:
        """Return the options that a study stores: without the folders of a host, and none of `source` without one."""
        omitted = {"data_dir", "cache_dir", *(_OF_GIVEN_DATA if self.source is None else ())}
        if self.folds is None:
            # As in files of versions without folds.
            omitted.add("folds")
        return {name: value for name, value in asdict(self).items() if name not in omitted}
