"""Sections on targets: classes and their balance, labels and how they occur together, distributions of numbers."""

from __future__ import annotations

import numpy as np

from hpo import formatting
from hpo.document.charts import Axis, Chart, Matrix, Point, Series, colour_of
from hpo.document.document import Block, Figure, Paragraph, Table
from hpo.explore.dataset import Dataset
from hpo.explore.statistics import Balance
from hpo.formatting import quantity

MOST_TOGETHER = 20
"""Largest number of labels in the chart of labels that occur together."""
MOST_TARGETS = 4
"""Largest number of targets whose distributions are drawn."""
_BINS = (8, 40)
"""Lowest and highest number of bins of a distribution."""


def classes(dataset: Dataset, balance: Balance) -> list[Block]:
    """Return the numbers of each class by split, and tests of their balance."""
    counts, training = balance.counts, balance.counts["training"]
    rows = [
        {
            "label": str(label),
            "class": formatting.printable(class_name),
            **{split: str(of_class[label]) for split, of_class in counts.items()},
            "of training": f"{100 * training[label] / max(1, sum(training)):.2f} %",
        }
        for label, class_name in enumerate(dataset.data.classes)
    ]
    sums = {split: str(sum(of_class)) for split, of_class in counts.items()}
    rows.append({"label": "", "class": "all", **sums, "of training": "100.00 %"})
    return [
        Table.of(rows, text=["class"]),
        Paragraph(balance.describe_classes(dataset.noun)),
        Paragraph(balance.describe_splits(dataset.noun)),
        Paragraph(origin(dataset), "note"),
    ]


def origin(dataset: Dataset) -> str:
    """Return sentences on the splits and on how rows are named."""
    found = "All splits are the data set's own."
    if dataset.made:
        found = (
            f"The {formatting.joined(dataset.made)} {dataset.noun} are held out of the others as a launch does it:"
            f" {_way_of_holding_out(dataset)}, and the same every time."
        )
    if "test" in dataset.splits:
        found += " The test set is only checked for its targets and duplicates, because no choice may depend on it."
    if not dataset.paths:
        found += " Numbers (#) are indices of the data set's arrays"
        found += f"; {dataset.noun} that are held out are numbered in x_train." if dataset.made else "."
    return found


def _way_of_holding_out(dataset: Dataset) -> str:
    if dataset.task == "regression":
        return "whole groups, drawn at random" if dataset.has_groups else "drawn at random"
    strata = "sets of labels" if dataset.task == "labels" else "classes"
    if dataset.has_groups:
        return f"whole groups, in proportion to the {strata}"
    return f"stratified by {'sets of labels' if dataset.task == 'labels' else 'class'}"


def labels(dataset: Dataset) -> list[Block]:
    """Return the numbers of each label by split, and which labels occur together."""
    found = {split: np.asarray(y) > 0 for split, (_, y) in dataset.splits.items()}
    training = found["training"]
    rows = [
        {
            "label": formatting.printable(name),
            **{split: f"{int(y[:, label].sum()):,}" for split, y in found.items()},
            "of training": f"{100 * training[:, label].mean():.2f} %",
        }
        for label, name in enumerate(dataset.data.classes)
    ]
    each = training.sum(axis=1)
    text = (
        f"A training {dataset.noun.removesuffix('s')} has {each.mean():.2f} labels on average, at most"
        f" {int(each.max())}; {100 * (each == 0).mean():.1f} % have none."
    )
    rare = [dataset.data.classes[label] for label in np.flatnonzero(training.sum(axis=0) == 0)]
    if rare:
        text += (
            f" No training {dataset.noun.removesuffix('s')} has {', '.join(rare)}, which cannot be learned."
        )
    return [
        Table.of(rows, text=["label"]),
        Paragraph(text),
        _together(dataset),
        Paragraph(origin(dataset), "note"),
    ]


def _together(dataset: Dataset) -> Figure:
    y = np.asarray(dataset.data.y_train) > 0
    common = np.argsort(-y.sum(axis=0), kind="stable")[:MOST_TOGETHER]
    counts = y[:, common].astype(np.float64).T @ y[:, common]
    shares = counts / np.maximum(np.diag(counts), 1)[:, None]
    names = [formatting.printable(dataset.data.classes[label]) for label in common]
    matrix = Matrix(
        title="",
        rows=names,
        columns=names,
        shades=shares.tolist(),
        texts=[[f"{100 * share:.0f}" if share else "" for share in row] for row in shares],
        x=Axis("have this label too"),
        y=Axis("of those with this label"),
    )
    more = f", the {len(common)} most frequent labels" if len(common) < y.shape[1] else ""
    height = 120 + 24 * len(names)
    return Figure(
        "together",
        f"Labels that occur together: % of the training {dataset.noun} with the label of the row that have the label of"
        f" the column too{more}.",
        [matrix],
        height=height,
        width=200 + 60 * len(names),
    )


def numbers(dataset: Dataset) -> list[Block]:
    """Return the distribution of each number by split."""
    rows, text = [], []
    for target, name in enumerate(dataset.data.classes):
        for split, (_, y) in dataset.splits.items():
            values = np.asarray(y)[:, target].astype(np.float64)
            if len(values):
                points = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
                shown = map(quantity, (*points, values.mean(), values.std()))
                rows.append((formatting.printable(name), split, *shown))
        text += _describe_number(dataset, target, name)
    headers = ("target", "split", "lowest", "5 %", "median", "95 %", "highest", "mean", "std")
    charts = [_histogram(dataset, target) for target in range(min(MOST_TARGETS, len(dataset.data.classes)))]
    caption = f"Distribution of {'the target' if len(charts) == 1 else 'each target'} in each split."
    return [
        Table(headers, rows, frozenset(headers[2:])),
        *([Paragraph(" ".join(text))] if text else []),
        Figure("targets", caption, charts, height=320),
        Paragraph(origin(dataset), "note"),
    ]


def _describe_number(dataset: Dataset, target: int, name: str) -> list[str]:
    """Return sentences on the peculiarities of one target."""
    from scipy import stats

    training = np.asarray(dataset.data.y_train)[:, target]
    values, counts = np.unique(training, return_counts=True)
    if len(values) == 1:
        return [
            f"{name} is {quantity(values[0])} in all training {dataset.noun}, so there is nothing to learn."
        ]
    found = []
    share = counts.max() / len(training)
    if share > 0.05:
        value = values[counts.argmax()]
        found.append(
            f"{100 * share:.0f} % of the training {dataset.noun} have the same {name}, {quantity(value)}: check that it"
            " is a measurement and not a limit or a missing value."
        )
    held_out = np.asarray(dataset.data.y_valid)[:, target]
    if len(held_out) > 1:
        p = float(stats.ks_2samp(training, held_out).pvalue)
        differ = "differ significantly" if p < 0.01 else "do not differ significantly"
        found.append(f"{name}: training and validation {differ} (Kolmogorov-Smirnov test, p = {p:.2g}).")
    return found


def _histogram(dataset: Dataset, target: int) -> Chart:
    """Return the shares of a number's bins, as many as the smallest split has rows for (Rice's rule)."""
    columns = {split: np.asarray(y)[:, target] for split, (_, y) in dataset.splits.items() if len(y)}
    low, high = min(map(np.min, columns.values())), max(map(np.max, columns.values()))
    fewest = min(map(len, columns.values()))
    bins = int(np.clip(round(2 * fewest ** (1 / 3)), *_BINS))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    series = []
    for index, (split, values) in enumerate(columns.items()):
        shares = 100 * np.histogram(values, edges)[0] / len(values)
        points = [Point(float(x), float(y)) for x, y in zip(centres, shares, strict=True)]
        series.append(Series(name=split, points=points, colour=colour_of(index), width=1.5))
    name = formatting.printable(dataset.data.classes[target])
    return Chart(name if len(dataset.data.classes) > 1 else "", Axis(name), Axis("% of the split"), series)
