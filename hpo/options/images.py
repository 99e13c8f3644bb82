"""Options of images of your own, which a study trains on in place of a named data set."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.options.fields import Range, option_field
from objectives.data_options import DEFAULT_TEST_FRACTION, FITS, LARGEST_SIDE, Fit


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Images of your own and how a study reads them; None means not given."""

    data: Path | None = option_field(
        None,
        "Images of your own for an objective without a data set: a folder with a folder for each class, or with "
        "train, val and test of such folders, or a table (CSV, Parquet) with columns path,label[,split][,group].",
        kind="path",
        show_default="the study's own, else the objective's data set",
    )
    image_size: int | None = option_field(
        None,
        "Height and width that these images get.",
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
        "Fraction of these images that becomes the test set where they have none, stratified, groups kept whole.",
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
