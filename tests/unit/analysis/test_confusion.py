"""Scores of classes and confused pairs of a small matrix."""

from __future__ import annotations

import pytest

from hpo.analysis.confusion import class_scores, confused_pairs, pooled

CONFUSION = [[8, 2, 0], [1, 9, 0], [0, 0, 0]]
NAMES = ["cat", "dog", "frog"]


def test_class_scores() -> None:
    cat, dog, frog = class_scores(CONFUSION, NAMES)
    assert (cat.precision, cat.recall, cat.images) == (pytest.approx(8 / 9), 0.8, 10)
    assert dog.f1 == pytest.approx(2 * (9 / 11) * 0.9 / (9 / 11 + 0.9))
    # The class has no images and was never predicted.
    assert (frog.precision, frog.recall, frog.f1) == (None, None, None)


def test_confused_pairs() -> None:
    assert [(p.true, p.predicted, p.count, p.share) for p in confused_pairs(CONFUSION, NAMES)] == [
        ("cat", "dog", 2, 0.2),
        ("dog", "cat", 1, 0.1),
    ]
    assert len(confused_pairs(CONFUSION, NAMES, most=1)) == 1
    assert confused_pairs([[3, 0], [0, 3]], NAMES[:2]) == []


def test_matrices_of_seeds_are_pooled() -> None:
    assert pooled([[[1, 2], [3, 4]], [[10, 20], [30, 40]]]) == [[11, 22], [33, 44]]
