"""The metrics that the service knows: their labels, directions, bounds and units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo import formatting
from hpo.analysis.statistics import Bounds, Interval

FLIPPED = "_flip_averaged"
"""Suffix of figures of the mean over each image and its mirror image."""
_PREFIXES = ("final_", "test_", "val_")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as reports show it."""

    label: str
    maximize: bool
    bounds: Bounds = (0.0, 1.0)
    """Lowest and highest possible value."""


METRICS = {
    "accuracy": Metric(label="accuracy", maximize=True),
    "balanced_accuracy": Metric(label="balanced accuracy", maximize=True),
    "macro_f1": Metric(label="macro F1", maximize=True),
    "auc": Metric(label="AUC", maximize=True),
    "average_precision": Metric(label="average precision", maximize=True),
    "top_5_accuracy": Metric(label="top-5 accuracy", maximize=True),
    "rmse": Metric(label="RMSE", maximize=False, bounds=(0.0, math.inf)),
    "mae": Metric(label="MAE", maximize=False, bounds=(0.0, math.inf)),
    "r2": Metric(label="R²", maximize=True, bounds=(-math.inf, 1.0)),
    "log_loss": Metric(label="log loss", maximize=False, bounds=(0.0, math.inf)),
    "loss": Metric(label="loss", maximize=False, bounds=(0.0, math.inf)),
    "calibration_error": Metric(label="calibration error", maximize=False),
}
"""Metrics by name, the most informative ones first."""
SCORES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}
"""Headers of the scores of a class or label by their names in records."""
FIGURES = tuple(f"test_{name}{suffix}" for name in METRICS for suffix in ("", FLIPPED))
"""Names of the figures of final runs, in the order in which reports show them."""


def base_of(name: str) -> str:
    """Return the metric of a reported or recorded figure: `accuracy` of `final_val_accuracy`."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name.removesuffix(FLIPPED)


def is_measure(name: str) -> bool:
    """Whether a reported metric measures the configuration, as a learning rate or a speed does not."""
    return base_of(name) in METRICS or "loss" in name or "accuracy" in name


def label_of(figure: str) -> str:
    """Return a figure's name as reports show it; that of an unknown one is its own."""
    metric = METRICS.get(base_of(figure))
    if metric is None or not figure.startswith("test_"):
        return figure.removeprefix("final_")
    label = "expected calibration error" if metric.label == "calibration error" else f"test {metric.label}"
    return label + (", mean of each image and its mirror image" if figure.endswith(FLIPPED) else "")


def short_label(figure: str) -> str:
    """Return a test figure's name for the head of a column: `accuracy, flip-averaged`."""
    metric = METRICS.get(base_of(figure))
    name = figure.removeprefix("test_").replace("_", " ") if metric is None else metric.label
    return name + (", flip-averaged" if metric is not None and figure.endswith(FLIPPED) else "")


def bounds_of(name: str) -> Bounds | None:
    """Return the lowest and highest possible value of a figure; None if it is unknown."""
    metric = METRICS.get(base_of(name))
    if metric is not None:
        return metric.bounds
    if "accuracy" in name:
        return 0.0, 1.0
    return (0.0, math.inf) if "loss" in name else None


def is_better_high(figure: str, own: Mapping[str, bool] | None = None) -> bool | None:
    """Whether larger values of a figure are better; None if it is unknown.

    `own` are the directions that studies declare, by the figures that measure their metrics: they precede its name.
    """
    if own is not None and figure in own:
        return own[figure]
    metric = METRICS.get(base_of(figure))
    if metric is not None:
        return metric.maximize
    return True if "accuracy" in figure else False if "loss" in figure else None


def counterpart(metric: str) -> str:
    """Return the figure of final runs that measures a study's metric on the test set: `test_f1` for `val_f1`."""
    return f"test_{base_of(metric)}"


def leading(summary: Mapping[str, Any], metric: str | None) -> str | None:
    """Return the figure to lead with: the study's metric on the test set, or else the first known or recorded one."""
    own = () if metric is None else (counterpart(metric),)
    tested = [name for name in summary if name.startswith("test_")]
    final = () if metric is None else (f"final_{metric}",)
    return next((name for name in (*own, *FIGURES, *tested, *final, *summary) if name in summary), None)


def interval_of(summary: Mapping[str, Any], figure: str) -> Interval:
    """Return the interval of a figure in metrics.json, within the bounds of its metric."""
    return Interval.from_json(summary[figure]).within(bounds_of(figure))


def amount(value: float, metric: str, compared: Iterable[float] = ()) -> str:
    """Return a difference of `compared` values as text: percentage points for a share, else in its own units."""
    return f"{100 * value:.1f} points" if is_share(metric, compared) else formatting.metric(value)


def is_share(metric: str, values: Iterable[float] = ()) -> bool:
    """Whether a metric is a share, whose hundredths are points; an accuracy beyond 1 is in percent already."""
    return "accuracy" in metric and all(abs(value) <= 1 for value in values)
