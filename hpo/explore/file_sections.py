"""Sections on the files of images: formats, colours and sizes, unreadable files, and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from hpo import formatting
from hpo.document.charts import BLUE, ORANGE, Axis, Chart, Point, Series
from hpo.document.document import Block, Figure, Paragraph, Table
from hpo.explore.dataset import Dataset
from hpo.explore.image_files import ImageFiles
from objectives.images.listing import named

MOST_LISTED = 50
"""Largest number of files, colours or groups that a table lists."""
_MOST_POINTS = 1500
_FITS = {
    "crop": "scaled until it covers that shape and loses its edges: {share} of its area on average",
    "pad": "scaled until it fits into that shape and gets black edges: {share} of the area on average",
    "stretch": "stretched to that shape, which changes its aspect ratio by {share} on average",
}


def formats(files: ImageFiles) -> list[Block]:
    """Return the numbers of files by format and colour mode."""
    blocks: list[Block] = [
        _counts("format", files.formats),
        _counts("colours", files.colours),
    ]
    if files.ignored:
        count = formatting.counted(len(files.ignored), "other file")
        blocks.append(Paragraph(f"{count} next to the images: {named(files.ignored)}.", "note"))
    return blocks


def _counts(title: str, numbers: Mapping[str, int]) -> Table:
    total = max(1, sum(numbers.values()))
    rows = [
        (name, f"{count:,}", f"{100 * count / total:.1f} %")
        for name, count in list(numbers.items())[:MOST_LISTED]
    ]
    return Table((title, "images", "share"), rows, frozenset(("images", "share")))


def sizes(files: ImageFiles) -> list[Block]:
    """Return the distribution of widths, heights and aspect ratios, and how images are fitted."""
    width, height = files.sizes.T
    rows = []
    for name, values, form in (
        ("width", width, "{:.0f}"),
        ("height", height, "{:.0f}"),
        ("width/height", width / height, "{:.2f}"),
    ):
        points = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
        rows.append((name, *(form.format(value) for value in points)))
    headers = ("pixels", "lowest", "5 %", "median", "95 %", "highest")
    table = Table(headers, rows, frozenset(headers[1:]))
    shapes = Counter(map(tuple, files.sizes.tolist()))
    ways = formatting.counted(f"{len(shapes):,}", "size") if len(shapes) > 1 else "one size"
    return [table, Paragraph(f"The images have {ways}, after rotation by EXIF. {fitting(files)}")]


def fitting(files: ImageFiles) -> str:
    """Return sentences on the shape that models get."""
    shape = files.geometry
    colour = "grey" if shape.channels == 1 else "in colour"
    text = f"Models get {shape.height}×{shape.width} (height × width), {colour} (--image-size)"
    if files.misfit > 0:
        share = f"{100 * files.misfit:.1f} %"
        text += f"; an image of another aspect ratio is {_FITS[shape.fit].format(share=share)} (--image-fit)"
    if files.enlarged > 0:
        text += f". {100 * files.enlarged:.1f} % of the images are smaller than that and are enlarged"
    return f"{text}."


def size_chart(files: ImageFiles) -> Figure | None:
    """Return the sizes as points, unless all are equal."""
    found, counts = np.unique(files.sizes, axis=0, return_counts=True)
    if len(found) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_POINTS)).round().astype(int))
    points = [
        Point(int(width), int(height), f"{height}×{width}: {formatting.counted(int(count), 'image')}")
        for (width, height), count in zip(found[chosen], counts[chosen], strict=True)
    ]
    wide = bool(found.max() > 20 * found.min())
    shape = files.geometry
    series = [
        Series(name="sizes of images", points=points, style="points", colour=BLUE, opacity=0.5),
        Series(
            name="shape that models get",
            points=[Point(shape.width, shape.height, f"models get {shape.height}×{shape.width}")],
            style="points",
            colour=ORANGE,
            width=4.0,
            marker="cross",
        ),
    ]
    chart = Chart("", Axis("width in pixels", log=wide), Axis("height in pixels", log=wide), series)
    return Figure("sizes", "Sizes of the images as they are shown.", [chart], height=360, width=720)


def unreadable(files: ImageFiles) -> list[Block] | None:
    """Return the files that cannot be read; None: all can."""
    if not files.unreadable:
        return None
    listed = list(files.unreadable.items())[:MOST_LISTED]
    more = len(files.unreadable) - len(listed)
    rest = f" The other {more:,} are in statistics.json." if more else ""
    count = formatting.counted(len(files.unreadable), "file")
    return [
        Table(("file", "problem"), [(formatting.printable(path), problem) for path, problem in listed]),
        Paragraph(
            f"{count} cannot be read and {'is' if len(files.unreadable) == 1 else 'are'} not explored.{rest} hpo launch"
            " refuses them: replace or remove them, or leave them out with --skip-unreadable."
        ),
    ]


def groups(dataset: Dataset, files: ImageFiles) -> list[Block] | None:
    """Return the numbers of groups by split and the largest ones; None: there are no groups."""
    if not files.groups:
        return None
    rows = []
    for split, paths in dataset.paths.items():
        found = {files.groups[path] for path in paths if path in files.groups}
        rows.append((split, f"{len(paths):,}", f"{len(found):,}"))
    size_of = Counter(files.groups.values())
    largest = [(name, f"{count:,}") for name, count in size_of.most_common(5)]
    alone = sum(len(paths) for paths in dataset.paths.values()) - len(files.groups)
    text = f"{len(size_of):,} groups of {formatting.counted(f'{len(files.groups):,}', 'image')}; none crosses splits."
    if alone:
        text += f" {formatting.counted(f'{alone:,}', 'image')} without a group."
    return [
        Table(("split", "images", "groups"), rows, frozenset(("images", "groups"))),
        Table(("largest groups", "images"), largest, frozenset(("images",))),
        Paragraph(text),
    ]
