"""The section on inputs that are not images: features of tables, texts, sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo import formatting
from hpo.document.document import Block, Paragraph, Table
from hpo.explore.dataset import Dataset
from objectives.data.inputs import Inputs, each

MOST_FEATURES = 50
"""Largest number of features that a table lists."""
MOST_VALUES = 1_000_000
"""Number of values of a feature above which evenly spaced ones give its mean, deviation and quantiles."""


def summary(dataset: Dataset) -> str:
    """Return the rows and their shape as the end of a sentence."""
    if dataset.is_images:
        height, width, depth = dataset.data.x_train.shape[1:]
        return f"images of {height}×{width}, {formatting.counted(depth, 'channel')}"
    return f"rows of {', '.join(_shape(name, x) for name, x in named(dataset.data.x_train))}"


def named(rows: Inputs) -> list[tuple[str, NDArray[Any]]]:
    """Return arrays of inputs with their names; a single array has the name x."""
    return [(name or "x", array) for name, array in each(rows).items()]


def _shape(name: str, x: NDArray[Any]) -> str:
    shape = "×".join(map(str, x.shape[1:])) or "one value"
    return f"{name} ({shape}, {'text' if x.dtype.kind in 'US' else x.dtype})"


def inputs(dataset: Dataset) -> list[Block]:
    """Return the distribution of each feature of the training rows."""
    blocks: list[Block] = []
    for name, x in named(dataset.sampled["training"][0]):
        if x.dtype.kind in "US":
            blocks.append(_texts(name, x))
        else:
            blocks += _features(name, x)
    return blocks


def _texts(name: str, x: NDArray[Any]) -> Table:
    flat = x.reshape(-1)
    lengths = np.char.str_len(flat)
    rows = [
        ("different texts", f"{len(np.unique(flat)):,} of {len(flat):,}"),
        ("empty", f"{int((lengths == 0).sum()):,}"),
        (
            "characters, lowest, median, highest",
            f"{lengths.min()}, {np.median(lengths):.0f}, {lengths.max()}",
        ),
    ]
    return Table((formatting.printable(name), "training"), rows)


def _features(name: str, x: NDArray[Any]) -> list[Block]:
    """Return the distribution of each feature; those of images and sequences are their channels, at all places."""
    places = x.ndim > 2
    x = x.reshape(-1, x.shape[-1]) if places else x.reshape(len(x), -1)
    every = max(1, len(x) // MOST_VALUES)
    rows, constant, scales = [], [], []
    for column in range(x.shape[1]):
        title = f"{formatting.printable(name)}[{'…, ' if places else ''}{column}]"
        low, high = float(x[:, column].min()), float(x[:, column].max())
        if low == high:
            constant.append(title)
        if column < MOST_FEATURES:
            values = x[::every, column].astype(np.float64)
            points = np.quantile(values, (0.05, 0.5, 0.95))
            shown = map(formatting.quantity, (values.mean(), values.std(), low, *points, high))
            rows.append((title, *shown))
            scales.append(values.std())
    headers = ("feature", "mean", "std", "lowest", "5 %", "median", "95 %", "highest")
    more = f"The first {MOST_FEATURES} of {x.shape[1]:,} features." if x.shape[1] > MOST_FEATURES else ""
    blocks: list[Block] = [Table(headers, rows, frozenset(headers[1:]), more)]
    if constant:
        listed = ", ".join(constant[:10]) + (", …" if len(constant) > 10 else "")
        blocks.append(
            Paragraph(
                f"{formatting.counted(len(constant), 'feature')} without variation in the training rows: {listed}."
            )
        )
    spread = [scale for scale in scales if scale > 0]
    if len(spread) > 1 and max(spread) > 100 * min(spread):
        blocks.append(
            Paragraph(
                "The features differ in scale by more than a factor of 100: normalize them in the model."
            )
        )
    return blocks
