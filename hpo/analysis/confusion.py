"""Scores of each class and the most confused pairs of classes, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Confusion = Sequence[Sequence[int]]
"""Counts with one row for each true class and one column for each predicted class."""


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class."""

    name: str
    precision: float | None
    """TP / (TP + FP); None if the class was never predicted."""
    recall: float | None
    """TP / (TP + FN); None if the class has no images."""
    f1: float | None
    """Harmonic mean of precision and recall."""
    images: int
    """Number of images of the class, each counted once."""


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were predicted as another."""

    true: str
    predicted: str
    count: int
    share: float
    """Share of the images of the true class."""


def pooled(matrices: Iterable[Confusion]) -> list[list[int]]:
    """Return the sum of several matrices of one shape."""
    rows = zip(*matrices, strict=True)
    return [[sum(cell) for cell in zip(*same, strict=True)] for same in rows]


def class_scores(confusion: Confusion, names: Sequence[str], runs: int = 1) -> list[ClassScore]:
    """Return precision, recall and F1 of each class, from the sum of the matrices of `runs` on the same images."""
    scores = []
    for index, name in enumerate(names):
        right = confusion[index][index]
        images, predicted = sum(confusion[index]), sum(row[index] for row in confusion)
        scores.append(
            ClassScore(
                name,
                right / predicted if predicted else None,
                right / images if images else None,
                2 * right / (images + predicted) if images + predicted else None,
                images // runs,
            )
        )
    return scores


def confused_pairs(confusion: Confusion, names: Sequence[str], most: int = 10) -> list[ConfusedPair]:
    """Return the pairs of classes with the most errors, in descending order; ties in the order of the classes."""
    pairs = [
        ConfusedPair(names[true], names[predicted], count, count / sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and predicted != true
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:most]
