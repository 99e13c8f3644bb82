"""Options of data of your own, images or arrays, which a study trains on in place of a named data set."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.options.fields import Range, option_field
from objectives.data_options import DEFAULT_TEST_FRACTION, FITS, LARGEST_SIDE, TASKS, Fit, TaskName


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Data of your own and how a study reads them; None means not given."""

    data: Path | None = option_field(
        None,
        "Data of your own for an objective without a data set: a folder with a folder of images for each class, or "
        "with train, val and test of such folders; a table (CSV, Parquet) with columns path,label[,split][,group]; or "
        "arrays, an .npz file or a folder of .npy files.",
        kind="path",
        show_default="the study's own, else the objective's data set",
    )
    task: TaskName | None = option_field(
        None,
        "Target of this data: one of several classes, several labels (separated by |), one of two classes, or numbers.",
        kind=TASKS,
        show_default="the study's own, else the objective's",
    )
    image_size: int | None = option_field(
        None,
        "Height and width that images get.",
        kind=Range(1, 4096),
        show_default=f"the study's own, else that of the images, at most {LARGEST_SIDE}",
    )
    image_fit: Fit | None = option_field(
        None,
        "How images of another shape get this size: crop the centre, pad with black, or stretch.",
        kind=FITS,
        show_default="crop for a new study, else the study's own",
    )
    test_fraction: float | None = option_field(
        None,
        "Fraction of this data that becomes the test set where it has none, stratified, groups kept whole.",
        kind=Range(0.0, 0.9, low_open=True),
        metavar="FRACTION",
        show_default=f"{DEFAULT_TEST_FRACTION} for a new study, else the study's own",
    )
    skip_unreadable: bool = option_field(
        False,
        "Leave out images that cannot be read, and list them; without it they are refused.",
        kind="flag",
        show_default="off for a new study, else the study's own",
    )
