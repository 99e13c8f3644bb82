"""`hpo data explore` as a document: what the data set holds, and what training does to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hpo import formatting
from hpo.document.charts import BLUE, GREEN, GREY, RED, Axis, Chart, Series
from hpo.document.document import Block, Document, Figure, Gallery, Paragraph, Section, Table
from hpo.explore import galleries
from hpo.explore.dataset import Subject
from hpo.explore.duplicates import MOST_IMAGES, NEIGHBOURS, SIMILAR, Duplicates, Place
from hpo.explore.label_errors import ClassMeans
from hpo.explore.statistics import Balance, Channel

_MOST_GROUPS = 12
"""Groups of duplicates that are listed and shown."""
_COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "grey": GREY}


def build_exploration(
    subject: Subject,
    balance: Balance,
    channels: Sequence[Channel],
    duplicates: Duplicates,
    means: ClassMeans,
) -> Document:
    """The whole document."""
    x, splits = subject.data.x_train, subject.splits
    sizes = ", ".join(f"{len(y):,} {name}" for name, (_, y) in splits.items())
    height, width, depth = x.shape[1:]
    title = f"{subject.title}. " if subject.title else ""
    sections = [
        Section("Classes", _classes(subject, balance)),
        Section("Samples", list(galleries.samples(subject))),
        Section("Pixels", _pixels(channels)),
        Section("Normalization", _normalization(subject, channels)),
        Section("Augmentation", _augmentation(subject)),
        Section("Duplicates", _duplicates(subject, duplicates)),
        Section("Labels", _labels(subject, balance, duplicates, means)),
        Section("Mean images", [galleries.mean_images(subject, means)]),
    ]
    return Document(
        f"Data set {subject.name}",
        f"{title}{sizes} images of {height}×{width}, {depth} channel{'' if depth == 1 else 's'}.",
        sections,
        "Written by hpo data explore. The same figures for machines: statistics.json.",
    )


def statistics(
    subject: Subject,
    balance: Balance,
    channels: Sequence[Channel],
    duplicates: Duplicates,
    means: ClassMeans,
) -> dict[str, Any]:
    """The same for machines."""
    return {
        "name": subject.name,
        "image_shape": list(subject.data.image_shape),
        "images": {name: len(y) for name, (_, y) in subject.splits.items()},
        "classes": list(subject.data.classes),
        "class_counts": {name: list(counts) for name, counts in balance.counts.items()},
        "balance": {
            "largest_over_smallest": balance.ratio,
            "p_uniform": balance.p_uniform,
            "p_same_in_splits": balance.p_same,
        },
        "normalization": {"mean": list(subject.data.mean), "std": list(subject.data.std)},
        "channels": [
            {
                "split": one.split,
                "channel": one.channel,
                "mean": one.mean,
                "std": one.std,
                "min": one.least,
                "max": one.most,
                "share_zero": one.share_zero,
                "share_255": one.share_full,
            }
            for one in channels
        ],
        "identical": [[_place_json(subject, place) for place in group] for group in duplicates.groups],
        "contradictory_labels": len(duplicates.contradictions),
        "near_duplicates": None
        if duplicates.pairs is None
        else [
            {
                "first": _place_json(subject, pair.first),
                "second": _place_json(subject, pair.second),
                "correlation": round(pair.correlation, 4),
            }
            for pair in duplicates.pairs
        ],
        "nearest_class_mean_accuracy": means.accuracy,
        "suspects": [
            {**vars(suspect), "index": subject.number("training", suspect.index)}
            for suspect in means.suspects
        ],
    }


def _place_json(subject: Subject, place: Place) -> dict[str, Any]:
    return {**vars(place), "index": subject.number(place.split, place.index)}


def _classes(subject: Subject, balance: Balance) -> list[Block]:
    names = list(balance.counts)
    totals = {name: max(1, sum(balance.counts[name])) for name in names}
    rows = [
        (
            str(label),
            class_name,
            *(str(balance.counts[name][label]) for name in names),
            f"{100 * balance.counts['training'][label] / totals['training']:.2f} %",
        )
        for label, class_name in enumerate(subject.data.classes)
    ]
    rows.append(("", "all", *(str(sum(balance.counts[name])) for name in names), "100.00 %"))
    return [
        Table(
            ("label", "class", *names, "of training"), rows, frozenset({"label", *names, "of training"}), ""
        ),
        Paragraph(balance.describe_classes()),
        Paragraph(balance.describe_splits()),
        Paragraph(
            "Validation images are the tenth of the training split that studies hold out by default, stratified. Of the"
            " test set, labels are counted and duplicates looked for, nothing else: no choice may rest on it. Numbers"
            " of images (#) are indices of the data set's arrays, x_train for training and validation.",
            "note",
        ),
    ]


def _pixels(channels: Sequence[Channel]) -> list[Block]:
    rows = [
        (
            one.split,
            one.channel,
            f"{one.mean:.2f}",
            f"{one.std:.2f}",
            str(one.least),
            str(one.most),
            f"{100 * one.share_zero:.2f} %",
            f"{100 * one.share_full:.2f} %",
        )
        for one in channels
    ]
    headers = ("split", "channel", "mean", "std", "min", "max", "at 0", "at 255")
    series = [
        Series(
            one.channel,
            [float(value) for value in range(256)],
            [100 * count / sum(one.histogram) or None for count in one.histogram],
            "line",
            _COLOURS.get(one.channel, BLUE),
            1.5,
        )
        for one in channels
        if one.split == "training"
    ]
    chart = Chart("", Axis("value of the pixel"), Axis("% of the training pixels", log=True), series)
    return [
        Table(headers, rows, frozenset(headers[2:]), "Values from 0 to 255."),
        Figure("pixels", "How often each value occurs in the training images.", [chart], 320),
    ]


def _normalization(subject: Subject, channels: Sequence[Channel]) -> list[Block]:
    rows = []
    trained = [one for one in channels if one.split == "training"]
    for one, mean, std in zip(trained, subject.data.mean, subject.data.std, strict=True):
        low, high = ((value / 255 - mean) / std for value in (one.least, one.most))
        rows.append((one.channel, f"{mean:.4f}", f"{std:.4f}", f"{low:.2f}", f"{high:.2f}"))
    headers = ("channel", "mean, 0 to 1", "std, 0 to 1", "lowest after", "highest after")
    caption = "What the first layers of every shipped model do, with the figures of the training images of the study."
    return [Table(headers, rows, frozenset(headers[1:]), caption), galleries.normalization(subject)]


def _augmentation(subject: Subject) -> list[Block]:
    if subject.augmentations:
        text = (
            "Training changes each image anew every epoch, by the very functions that made these pictures. Each change"
            " is shown by itself, then all together; a changed image must still be of its class to your eyes."
        )
    else:
        text = (
            "No objective changes the images of this data set. What the usual changes would do: a changed image must"
            " still be of its class to your eyes, and a mirrored digit, for one, is not."
        )
    return [Paragraph(text), *galleries.augmentations(subject)]


def _duplicates(subject: Subject, duplicates: Duplicates) -> list[Block]:
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
        blocks.append(
            galleries.at_places(
                subject,
                [(group, "") for group in _leaks_first(duplicates.groups)[:_MOST_GROUPS]],
                "identical",
                "Identical images, those across splits first.",
            )
        )
    if pairs:
        first = sorted(pairs, key=lambda pair: (pair.first.split == pair.second.split, -pair.correlation))
        blocks.append(
            galleries.at_places(
                subject,
                [((pair.first, pair.second), f", {pair.correlation:.3f}") for pair in first[:_MOST_GROUPS]],
                "near-duplicates",
                "Pairs that look alike, with the correlation: those across splits first, the most alike first.",
            )
        )
    what = (
        f"More than {MOST_IMAGES:,} images: near-duplicates were not looked for."
        if pairs is None
        else f"Near-duplicates are images whose pixels correlate by {SIMILAR} or more, whatever their brightness and"
        f" contrast, and of each image only the {NEIGHBOURS} nearest are compared; copies that were"
        " shifted, cropped or mirrored are not found. Where images are simple, as digits are,"
        " different ones may look so alike."
    )
    return [*blocks, Paragraph(what, "note")]


def _describe_leaks(identical: Counter[tuple[str, ...]], near: Counter[tuple[str, ...]] | None) -> str:
    leaks = sum(count for splits, count in identical.items() if len(splits) > 1)
    if leaks:
        return (
            f"{formatting.counted(leaks, 'different image')} {'occurs' if leaks == 1 else 'occur'} in more than one"
            " split: what is measured on copies was seen in training, so figures are a little too good."
        )
    apart = "No image occurs in more than one split"
    if near is None:
        return f"{apart}."
    alike = sum(count for splits, count in near.items() if len(splits) > 1)
    return (
        f"{apart}; {alike} pairs across splits look alike."
        if alike
        else f"{apart}, and none looks like one of another split."
    )


def _leaks_first(groups: Sequence[Sequence[Place]]) -> list[Sequence[Place]]:
    return sorted(groups, key=lambda group: len({place.split for place in group}) == 1)


def _labels(subject: Subject, balance: Balance, duplicates: Duplicates, means: ClassMeans) -> list[Block]:
    missing = [
        f"{split} has no {subject.data.classes[label]}"
        for split, counts in balance.counts.items()
        for label, count in enumerate(counts)
        if count == 0
    ]
    contradictions = duplicates.contradictions
    checks = [
        ("whole numbers, one for each image", "yes"),
        (f"from 0 to {subject.data.class_count - 1}", "yes"),
        ("every class in every split", "; ".join(missing) or "yes"),
        ("identical images have the same label", _describe_contradictions(subject, contradictions)),
    ]
    blocks: list[Block] = [Table(("check", "outcome"), checks)]
    if means.suspects:
        pictures = [
            galleries.picture(
                subject.data.x_train[one.index],
                f"{subject.data.classes[one.label]}, like {subject.data.classes[one.nearest]},"
                f" #{subject.number('training', one.index)}",
            )
            for one in means.suspects
        ]
        caption = (
            "Training images that are nearer to the mean image of another class than to that of their own by most."
            " Often merely unusual, sometimes mislabelled; where the nearest mean is seldom right"
            f" (here: for {100 * means.accuracy:.1f} % of the images), it says little."
        )
        blocks.append(Gallery("suspects", caption, pictures))
    return blocks


def _describe_contradictions(subject: Subject, groups: Sequence[Sequence[Place]]) -> str:
    if not groups:
        return "yes"
    shown = "; ".join(
        ", ".join(
            f"{place.split} #{subject.number(place.split, place.index)} {subject.data.classes[place.label]}"
            for place in group
        )
        for group in groups[:_MOST_GROUPS]
    )
    return f"no, in {len(groups)}: {shown}"


def terminal_blocks(document: Document) -> list[tuple[str, Sequence[Table | Paragraph]]]:
    """The tables and sentences of each section that has any, without pictures."""
    found: list[tuple[str, Sequence[Table | Paragraph]]] = []
    for section in document.sections:
        blocks = [block for block in section.blocks if isinstance(block, Table | Paragraph)]
        if any(isinstance(block, Table) for block in blocks):
            found.append((section.title, blocks))
    return found
