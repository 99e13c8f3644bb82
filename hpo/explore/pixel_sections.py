"""Sections on the pixels of images: their values, normalization and augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.document.charts import BLUE, GREEN, GREY, RED, Axis, Chart, Point, Series
from hpo.document.document import Block, Figure, Paragraph, Table
from hpo.explore.dataset import Dataset
from hpo.explore.statistics import Channel

_COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "grey": GREY}


def pixels(dataset: Dataset, channels: Sequence[Channel]) -> list[Block]:
    """Return the statistics of each channel and a chart."""
    exact = dataset.data.x_train.dtype == np.uint8
    rows = [
        {
            "split": one.split,
            "channel": one.channel,
            "mean": number(one.mean),
            "std": number(one.std),
            "min": number(one.min),
            "max": number(one.max),
            "at 0" if exact else "at the lowest": f"{100 * one.share_low:.2f} %",
            "at 255" if exact else "at the highest": f"{100 * one.share_high:.2f} %",
        }
        for one in channels
    ]
    series = [
        Series(
            name=one.channel,
            points=[
                Point(one.low + place * one.width, 100 * count / sum(one.histogram))
                for place, count in enumerate(one.histogram)
                if count
            ],
            colour=_COLOURS.get(one.channel, BLUE),
            width=1.5,
        )
        for one in channels
        if one.split == "training"
    ]
    caption = "Pixel values from 0 to 255." if exact else "Pixel values."
    chart = Chart("", Axis("pixel value"), Axis("% of the training pixels", log=True), series)
    return [
        Table.of(rows, text=["split", "channel"], caption=caption),
        Figure(
            "pixels", "Frequency of each pixel value that occurs in the training images.", [chart], height=320
        ),
    ]


def normalization(dataset: Dataset, channels: Sequence[Channel]) -> Table:
    """Return the statistics by which models normalize, and the range of the normalized pixels."""
    scale, rows = dataset.pixel_scale, []
    trained = [one for one in channels if one.split == "training"]
    for one, mean, std in zip(trained, dataset.data.mean, dataset.data.std, strict=True):
        low, high = ((value / scale - mean) / std for value in (one.min, one.max))
        rows.append((one.channel, f"{mean:.4f}", f"{std:.4f}", f"{low:.2f}", f"{high:.2f}"))
    unit = "" if scale == 1.0 else ", 0 to 1"
    headers = ("channel", f"mean{unit}", f"std{unit}", "lowest after", "highest after")
    caption = (
        "The first layers of every shipped model normalize with these statistics of the training images."
    )
    return Table(headers, rows, frozenset(headers[1:]), caption)


def augmentation(dataset: Dataset) -> Paragraph:
    """Return sentences on the changes that are shown."""
    target = {"regression": "target", "labels": "set of labels"}.get(dataset.task, "class")
    if dataset.augmentations:
        text = (
            "Training augments each image in every epoch with the same functions as shown here: each change alone, then"
            f" all together. Check that the {target} of each changed image still holds."
        )
    else:
        text = (
            "No objective augments the images of this data set. These are common augmentations: use one only if the"
            f" {target} of each changed image still holds, unlike that of a mirrored digit, for example."
        )
    return Paragraph(text)


def number(value: float) -> str:
    """Return a pixel value: whole numbers as they are, others with two places or four digits."""
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}"
