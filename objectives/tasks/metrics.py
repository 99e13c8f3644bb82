"""Metrics by name: exact in float64, each example once, without Keras or scikit-learn, which takes seconds to import.

A metric has two halves. `rows` computes once what each example contributes, and `value` combines rows, so that
`objectives.tasks.intervals` can resample examples without computing everything again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data_options import TaskName

Floats = NDArray[np.float64]
Rows = tuple[NDArray[Any], ...]
"""Arrays with one row for each example."""

TOP = 5
"""Number of guesses of `top_5_accuracy`."""
CHANCE = 0.5
"""Area under a curve where it is undefined, because no class has both positive and negative examples."""
_LEAST = float(np.finfo(np.float64).eps)
"""Smallest probability whose logarithm is taken."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of targets and outputs, as `objectives.tasks.task.Task.outputs` returns these."""

    name: str
    tasks: frozenset[TaskName]
    maximize: bool
    """Whether higher values are better."""
    rows: Callable[[NDArray[Any], Floats], Rows]
    value: Callable[..., float]
    classes_above: int = 0
    """Number of classes that the data must exceed."""

    def __call__(self, targets: NDArray[Any], outputs: Floats) -> float:
        return self.value(*self.rows(targets, outputs))

    def applies(self, task: TaskName, classes: int) -> bool:
        """Return whether it is defined for a task, and more than trivial for this number of classes."""
        return task in self.tasks and classes > self.classes_above


def predictions(outputs: Floats) -> NDArray[np.int64]:
    """Return the predicted classes (n,) of probabilities (n, classes), or of those of the second class (n,)."""
    return (outputs > 0.5).astype(np.int64) if outputs.ndim == 1 else outputs.argmax(axis=1)


def area_under_curve(ranks: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve of scores given as ranks (n,); NaN if all examples are of one kind."""
    size = int(ranks.max(initial=-1)) + 1
    above = ranks[positive]
    pairs = len(above) * (len(ranks) - len(above))
    if pairs == 0:
        return float("nan")
    below = np.bincount(ranks, minlength=size) - np.bincount(above, minlength=size)
    return float((np.cumsum(below)[above] - below[above] / 2).sum() / pairs)


def precision_average(ranks: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the average precision of scores given as ranks (n,), a step for each rank; NaN without positives."""
    size = int(ranks.max(initial=-1)) + 1
    found = np.bincount(ranks[positive], minlength=size)[::-1]
    chosen = np.cumsum(np.bincount(ranks, minlength=size)[::-1])
    if not found.any():
        return float("nan")
    return float((found * np.cumsum(found) / np.maximum(chosen, 1)).sum() / found.sum())


def ranked(outputs: Floats) -> NDArray[np.int32]:
    """Return the scores of each column as whole numbers of the same order; scores (n,) are one column."""
    columns = outputs.reshape(len(outputs), -1)
    ranks = np.empty(columns.shape, np.int32)
    for index, column in enumerate(columns.T):
        ranks[:, index] = np.unique(column, return_inverse=True)[1].reshape(-1)
    return ranks


def positives(targets: NDArray[Any], outputs: Floats) -> NDArray[np.bool_]:
    """Return whether each example belongs to the class or label of each column (n, columns) of `ranked`."""
    if outputs.ndim == 1 or targets.ndim == 2:
        found: NDArray[np.bool_] = targets.reshape(len(targets), -1) == 1
    else:
        found = targets[:, None] == np.arange(outputs.shape[1])
    return found


def _right(targets: NDArray[Any], outputs: Floats) -> Rows:
    if targets.ndim == 2:
        return (((outputs > 0.5) == (targets == 1)).mean(axis=1),)
    return (predictions(outputs) == targets,)


def _among_best(targets: NDArray[Any], outputs: Floats) -> Rows:
    of_target = np.take_along_axis(outputs, targets[:, None], axis=1)
    # Of equal ones the first is the better guess, as for `argmax`.
    earlier = np.arange(outputs.shape[1]) < targets[:, None]
    better = (outputs > of_target) | ((outputs == of_target) & earlier)
    return (better.sum(axis=1) < TOP,)


def _predicted(targets: NDArray[Any], outputs: Floats) -> Rows:
    """Return true and predicted classes (n,), or whether each label is true and predicted (n, labels)."""
    if targets.ndim == 2:
        return targets == 1, outputs > 0.5
    return targets, predictions(outputs)


def _scores(targets: NDArray[Any], outputs: Floats) -> Rows:
    return ranked(outputs), positives(targets, outputs)


def _surprise(targets: NDArray[Any], outputs: Floats) -> Rows:
    """Return the negative logarithm of the probability of each target."""
    if targets.ndim == 2 or outputs.ndim == 1:
        given = np.where(targets == 1, outputs, 1.0 - outputs)
        surprise = -np.log(np.clip(given, _LEAST, 1.0))
        return (surprise.reshape(len(surprise), -1).mean(axis=1),)
    return (-np.log(np.clip(np.take_along_axis(outputs, targets[:, None], axis=1)[:, 0], _LEAST, 1.0)),)


def _mean(rows: NDArray[Any]) -> float:
    return float(rows.mean())


@dataclass(frozen=True)
class MeanOfParts:
    """Mean over classes or labels."""

    parts: Callable[..., Floats]
    """Returns the value of each, NaN where it is undefined."""
    otherwise: float
    """Value where all are undefined."""

    def __call__(self, *rows: NDArray[Any]) -> float:
        return self._mean(self.parts(*rows))

    def of_resamples(self, *rows: NDArray[Any]) -> Callable[..., float]:
        """Return the mean for resamples of `rows`: of a class that one of them lacks, the value in all rows counts.

        Without it, a resample without a rare class would have the mean of the other ones, which is another metric.
        """
        whole = self.parts(*rows)

        def mean(*resample: NDArray[Any]) -> float:
            found = np.full_like(whole, np.nan)
            values = self.parts(*resample)
            found[: len(values)] = values
            return self._mean(np.where(np.isnan(found), whole, found))

        return mean

    def _mean(self, values: Floats) -> float:
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else self.otherwise


def _recalls(true: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    right, sizes, _ = _counts(true, predicted)
    return _ratios(right, sizes)


def _f1_scores(true: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """Return the F1 score of each class or label; NaN if it is neither true nor predicted for any example."""
    right, sizes, found = _counts(true, predicted)
    return _ratios(2 * right, sizes + found)


def _ratios(counts: NDArray[Any], totals: NDArray[Any]) -> Floats:
    ratios = np.full(len(totals), np.nan)
    np.divide(counts, totals, out=ratios, where=totals > 0)
    return ratios


def _counts(true: NDArray[Any], predicted: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return how many examples each class or label is right for, true for, and predicted for."""
    if true.ndim == 2:
        return (true & predicted).sum(axis=0), true.sum(axis=0), predicted.sum(axis=0)
    size = int(max(true.max(), predicted.max())) + 1
    right, sizes, found = (
        np.bincount(classes, minlength=size) for classes in (true[true == predicted], true, predicted)
    )
    return right, sizes, found


def _mean_over_columns(function: Callable[[NDArray[Any], NDArray[np.bool_]], float]) -> MeanOfParts:
    def parts(ranks: NDArray[Any], positive: NDArray[np.bool_]) -> Floats:
        # A column in one piece is read faster, by a half for 1,000 of them.
        columns, every = np.ascontiguousarray(ranks.T), np.ascontiguousarray(positive.T)
        return np.array([function(column, flags) for column, flags in zip(columns, every, strict=True)])

    return MeanOfParts(parts, CHANCE)


def _errors(targets: NDArray[Any], outputs: Floats) -> Floats:
    return targets.astype(np.float64) - outputs


def _r_squared(targets: Floats, squares: Floats) -> float:
    """Return the mean over targets of 1 - residual / total sum of squares, of a constant target 1 or 0."""
    total = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    residual = squares.sum(axis=0)
    constant = np.where(residual > 0, 0.0, 1.0)
    return float(np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), constant).mean())


_CATEGORIES: frozenset[TaskName] = frozenset(("classes", "labels", "binary"))
_NUMBERS: frozenset[TaskName] = frozenset(("regression",))

_ALL = (
    Metric(name="accuracy", tasks=_CATEGORIES, maximize=True, rows=_right, value=_mean),
    Metric(
        name="balanced_accuracy",
        tasks=frozenset(("classes", "binary")),
        maximize=True,
        rows=_predicted,
        value=MeanOfParts(_recalls, 0.0),
    ),
    Metric(
        name="macro_f1",
        tasks=_CATEGORIES,
        maximize=True,
        rows=_predicted,
        value=MeanOfParts(_f1_scores, 0.0),
    ),
    Metric(
        name="auc",
        tasks=_CATEGORIES,
        maximize=True,
        rows=_scores,
        value=_mean_over_columns(area_under_curve),
    ),
    Metric(
        name="average_precision",
        tasks=frozenset(("labels", "binary")),
        maximize=True,
        rows=_scores,
        value=_mean_over_columns(precision_average),
    ),
    Metric(
        name="top_5_accuracy",
        tasks=frozenset(("classes",)),
        maximize=True,
        rows=_among_best,
        value=_mean,
        classes_above=TOP,
    ),
    Metric(name="log_loss", tasks=_CATEGORIES, maximize=False, rows=_surprise, value=_mean),
    Metric(
        name="mae",
        tasks=_NUMBERS,
        maximize=False,
        rows=lambda targets, outputs: (np.abs(_errors(targets, outputs)).mean(axis=1),),
        value=_mean,
    ),
    Metric(
        name="rmse",
        tasks=_NUMBERS,
        maximize=False,
        rows=lambda targets, outputs: ((_errors(targets, outputs) ** 2).mean(axis=1),),
        value=lambda squares: float(squares.mean() ** 0.5),
    ),
    Metric(
        name="r2",
        tasks=_NUMBERS,
        maximize=True,
        rows=lambda targets, outputs: (targets.astype(np.float64), _errors(targets, outputs) ** 2),
        value=_r_squared,
    ),
)

METRICS = {metric.name: metric for metric in _ALL}
"""All metrics by their names."""


def names_of(task: TaskName) -> Sequence[str]:
    """Return the names of a task's metrics."""
    return [metric.name for metric in _ALL if task in metric.tasks]
