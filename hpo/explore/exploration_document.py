"""The exploration of a data set as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from hpo import formatting
from hpo.document.charts import BLUE, GREEN, GREY, RED, Axis, Chart, Point, Series
from hpo.document.document import Block, Document, Figure, Gallery, Paragraph, Table
from hpo.document.parts import section
from hpo.explore import galleries, statistics
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import MOST_IMAGES, NEIGHBOURS, SIMILAR, Duplicates, Place, find_duplicates
from hpo.explore.label_errors import ClassMeans, class_means
from hpo.explore.statistics import Balance, Channel

_MOST_GROUPS = 12
"""Largest number of groups of duplicates shown."""
_COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "grey": GREY}


class Exploration:
    """Findings on a data set, each computed when a part of the document needs it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @cached_property
    def balance(self) -> Balance:
        """Number of images of each class in each split."""
        return statistics.balance(self._dataset.splits, self._dataset.data.class_count)

    @cached_property
    def channels(self) -> Sequence[Channel]:
        """Pixels of each channel of the training and the validation images."""
        splits = self._dataset.splits
        return [
            one for name in ("training", "validation") for one in statistics.channels(name, splits[name][0])
        ]

    @cached_property
    def duplicates(self) -> Duplicates:
        """Identical and similar images within and across the splits."""
        return find_duplicates(self._dataset.splits)

    @cached_property
    def means(self) -> ClassMeans:
        """Mean image of each class, and images that resemble that of another."""
        data = self._dataset.data
        return class_means(data.x_train, data.y_train, data.class_count)


def build_exploration(dataset: Dataset, found: Exploration) -> Document:
    """Return the document."""
    x, splits = dataset.data.x_train, dataset.splits
    sizes = ", ".join(f"{len(y):,} {name}" for name, (_, y) in splits.items())
    height, width, depth = x.shape[1:]
    title = f"{dataset.title}. " if dataset.title else ""
    sections = [
        *section("Classes", lambda: _classes(dataset, found.balance)),
        *section("Samples", lambda: galleries.samples(dataset)),
        *section("Pixels", lambda: _pixels(found.channels)),
        *section(
            "Normalization",
            lambda: _normalization(dataset, found.channels),
            lambda: galleries.normalization(dataset),
        ),
        *section("Augmentation", lambda: _augmentation(dataset), lambda: galleries.augmentations(dataset)),
        *section("Duplicates", lambda: _duplicates(dataset, found.duplicates)),
        *section("Labels", lambda: _labels(dataset, found), lambda: _suspects(dataset, found.means)),
        *section("Mean images", lambda: galleries.mean_images(dataset, found.means)),
    ]
    return Document(
        f"Data set {dataset.name}",
        f"{title}{sizes} images of {height}×{width}, {depth} channel{'' if depth == 1 else 's'}.",
        sections,
        "Written by hpo data explore. Machine-readable: statistics.json.",
    )


def _classes(dataset: Dataset, balance: Balance) -> list[Block]:
    counts, training = balance.counts, balance.counts["training"]
    rows = [
        {
            "label": str(label),
            "class": class_name,
            **{split: str(of_class[label]) for split, of_class in counts.items()},
            "of training": f"{100 * training[label] / max(1, sum(training)):.2f} %",
        }
        for label, class_name in enumerate(dataset.data.classes)
    ]
    sums = {split: str(sum(of_class)) for split, of_class in counts.items()}
    rows.append({"label": "", "class": "all", **sums, "of training": "100.00 %"})
    return [
        Table.of(rows, text=["class"]),
        Paragraph(balance.describe_classes()),
        Paragraph(balance.describe_splits()),
        Paragraph(
            "Validation images are the stratified tenth of the training split that studies hold out by default. The"
            " test set is only checked for label counts and duplicates, because no choice may depend on it. Image"
            " numbers (#) are indices of the data set's arrays, x_train for training and validation.",
            "note",
        ),
    ]


def _pixels(channels: Sequence[Channel]) -> list[Block]:
    rows = [
        {
            "split": one.split,
            "channel": one.channel,
            "mean": f"{one.mean:.2f}",
            "std": f"{one.std:.2f}",
            "min": str(one.min),
            "max": str(one.max),
            "at 0": f"{100 * one.share_zero:.2f} %",
            "at 255": f"{100 * one.share_255:.2f} %",
        }
        for one in channels
    ]
    series = [
        Series(
            name=one.channel,
            points=[
                Point(value, 100 * count / sum(one.histogram))
                for value, count in enumerate(one.histogram)
                if count
            ],
            colour=_COLOURS.get(one.channel, BLUE),
            width=1.5,
        )
        for one in channels
        if one.split == "training"
    ]
    chart = Chart("", Axis("pixel value"), Axis("% of the training pixels", log=True), series)
    return [
        Table.of(rows, text=["split", "channel"], caption="Pixel values from 0 to 255."),
        Figure(
            "pixels", "Frequency of each pixel value that occurs in the training images.", [chart], height=320
        ),
    ]


def _normalization(dataset: Dataset, channels: Sequence[Channel]) -> Table:
    rows = []
    trained = [one for one in channels if one.split == "training"]
    for one, mean, std in zip(trained, dataset.data.mean, dataset.data.std, strict=True):
        low, high = ((value / 255 - mean) / std for value in (one.min, one.max))
        rows.append((one.channel, f"{mean:.4f}", f"{std:.4f}", f"{low:.2f}", f"{high:.2f}"))
    headers = ("channel", "mean, 0 to 1", "std, 0 to 1", "lowest after", "highest after")
    caption = (
        "The first layers of every shipped model normalize with these statistics of the training images."
    )
    return Table(headers, rows, frozenset(headers[1:]), caption)


def _augmentation(dataset: Dataset) -> Paragraph:
    if dataset.augmentations:
        text = (
            "Training augments each image in every epoch with the same functions as shown here: each change alone, then"
            " all together. Check that you still recognize the class of each changed image."
        )
    else:
        text = (
            "No objective augments the images of this data set. These are common augmentations: use one only if you"
            " still recognize the class of each changed image, which does not hold for a mirrored digit, for example."
        )
    return Paragraph(text)


def _duplicates(dataset: Dataset, duplicates: Duplicates) -> list[Block]:
    identical, near = duplicates.groups_by_splits(), duplicates.pairs_by_splits()
    pairs, rows = duplicates.pairs, []
    places: list[tuple[str, ...]] = list(dict.fromkeys([*identical, *near]))
    for splits in sorted(places, key=lambda names: (len(names), names)):
        where = f"within {splits[0]}" if len(splits) == 1 else f"across {' and '.join(splits)}"
        rows.append((where, str(identical[splits]), "-" if pairs is None else str(near[splits])))
    rows = rows or [("anywhere", "0", "-" if pairs is None else "0")]
    headers = ("where", "identical groups", "near-duplicate pairs")
    blocks: list[Block] = [
        Table(headers, rows, frozenset(headers[1:])),
        Paragraph(_describe_leaks(identical, None if pairs is None else near)),
    ]
    if duplicates.groups:
        caption = "Identical images, first those in several splits."
        groups = [(group, "") for group in _leaks_first(duplicates.groups)[:_MOST_GROUPS]]
        blocks.append(galleries.at_places(dataset, groups, "identical", caption))
    if pairs:
        caption = (
            "Near-duplicates with their correlation, first those in several splits, in descending order."
        )
        first = sorted(pairs, key=lambda pair: (pair.first.split == pair.second.split, -pair.correlation))
        shown = [((pair.first, pair.second), f", {pair.correlation:.3f}") for pair in first[:_MOST_GROUPS]]
        blocks.append(galleries.at_places(dataset, shown, "near-duplicates", caption))
    method = (
        f"Near-duplicates are not searched in more than {MOST_IMAGES:,} images."
        if pairs is None
        else f"Near-duplicates are images with a pixel correlation of at least {SIMILAR}, regardless of brightness and"
        f" contrast. Each image is compared with its {NEIGHBOURS} nearest images only; shifted, cropped or mirrored"
        " copies are not found. Simple images such as digits may correlate this much without being copies."
    )
    return [*blocks, Paragraph(method, "note")]


def _describe_leaks(identical: Counter[tuple[str, ...]], near: Counter[tuple[str, ...]] | None) -> str:
    leaks = sum(count for splits, count in identical.items() if len(splits) > 1)
    if leaks:
        return (
            f"{formatting.counted(leaks, 'different image')} {'occurs' if leaks == 1 else 'occur'} in more than one"
            " split, so metrics on these copies are optimistic."
        )
    apart = "No image occurs in more than one split"
    if near is None:
        return f"{apart}."
    alike = sum(count for splits, count in near.items() if len(splits) > 1)
    return (
        f"{apart}; {alike} near-duplicate pairs span two splits."
        if alike
        else f"{apart}, and no near-duplicates span two splits."
    )


def _leaks_first(groups: Sequence[Sequence[Place]]) -> list[Sequence[Place]]:
    return sorted(groups, key=lambda group: len({place.split for place in group}) == 1)


def _labels(dataset: Dataset, found: Exploration) -> Table:
    missing = [
        f"{split} has no {dataset.data.classes[label]}"
        for split, counts in found.balance.counts.items()
        for label, count in enumerate(counts)
        if count == 0
    ]
    checks = [
        ("whole numbers, one for each image", "yes"),
        (f"from 0 to {dataset.data.class_count - 1}", "yes"),
        ("every class in every split", "; ".join(missing) or "yes"),
        (
            "identical images have the same label",
            _describe_contradictions(dataset, found.duplicates.contradictions),
        ),
    ]
    return Table(("check", "outcome"), checks)


def _suspects(dataset: Dataset, means: ClassMeans) -> Gallery | None:
    if not means.suspects:
        return None
    pictures = [
        galleries.picture(
            dataset.data.x_train[one.index],
            f"{dataset.data.classes[one.label]}, resembles {dataset.data.classes[one.nearest]},"
            f" #{dataset.number('training', one.index)}",
        )
        for one in means.suspects
    ]
    caption = (
        "Training images much closer to the mean image of another class than to that of their own: often just"
        " unusual, sometimes mislabelled. The check is informative only if the nearest mean is usually right"
        f" (here for {100 * means.accuracy:.1f} % of the images)."
    )
    return Gallery("suspects", caption, pictures)


def _describe_contradictions(dataset: Dataset, groups: Sequence[Sequence[Place]]) -> str:
    if not groups:
        return "yes"
    shown = "; ".join(
        ", ".join(
            f"{place.split} #{dataset.number(place.split, place.index)} {dataset.data.classes[place.label]}"
            for place in group
        )
        for group in groups[:_MOST_GROUPS]
    )
    return f"no, in {len(groups)}: {shown}"


def terminal_blocks(document: Document) -> list[tuple[str, Sequence[Table | Paragraph]]]:
    """Return the tables and paragraphs of each section with a table."""
    found: list[tuple[str, Sequence[Table | Paragraph]]] = []
    for shown in document.sections:
        blocks = [block for block in shown.blocks if isinstance(block, Table | Paragraph)]
        if any(isinstance(block, Table) for block in blocks):
            found.append((shown.title, blocks))
    return found
