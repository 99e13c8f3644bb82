"""What a confusion matrix says of each class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Confusion = Sequence[Sequence[int]]
"""Counts: a row for each true class, a column for each predicted one."""


@dataclass(frozen=True)
class ClassScore:
    """One class."""

    name: str
    precision: float | None
    """Of the images called so, the share that are; None when none was called so."""
    recall: float | None
    """Of the images that are so, the share that were called so; None when there is none."""
    f1: float | None
    """Harmonic mean of the two."""
    images: int
    """True images of the class."""


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were taken for another."""

    true: str
    predicted: str
    count: int
    share: float
    """Of the true class's images."""


def pooled(matrices: Iterable[Confusion]) -> list[list[int]]:
    """The sum of several matrices of one shape: all seeds together."""
    rows = zip(*matrices, strict=True)
    return [[sum(cell) for cell in zip(*same, strict=True)] for same in rows]


def class_scores(confusion: Confusion, names: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each class."""
    scores = []
    for index, name in enumerate(names):
        right = confusion[index][index]
        images, called = sum(confusion[index]), sum(row[index] for row in confusion)
        scores.append(
            ClassScore(
                name,
                right / called if called else None,
                right / images if images else None,
                2 * right / (images + called) if images + called else None,
                images,
            )
        )
    return scores


def confused_pairs(confusion: Confusion, names: Sequence[str], most: int = 10) -> list[ConfusedPair]:
    """The pairs of classes with the most mistakes, most first; equals in the order of the classes."""
    pairs = [
        ConfusedPair(names[true], names[predicted], count, count / sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and predicted != true
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:most]
