"""Scores of classes and confused pairs, from a matrix made by hand."""

from __future__ import annotations

import pytest

from hpo.analysis.confusion import class_scores, confused_pairs, pooled

CONFUSION = [[8, 2, 0], [1, 9, 0], [0, 0, 0]]
NAMES = ["cat", "dog", "frog"]


def test_scores() -> None:
    cat, dog, frog = class_scores(CONFUSION, NAMES)
    assert (cat.precision, cat.recall, cat.images) == (pytest.approx(8 / 9), 0.8, 10)
    assert dog.f1 == pytest.approx(2 * (9 / 11) * 0.9 / (9 / 11 + 0.9))
    # Neither an image of it, nor one that was called so.
    assert (frog.precision, frog.recall, frog.f1) == (None, None, None)


def test_pairs() -> None:
    assert [(p.true, p.predicted, p.count, p.share) for p in confused_pairs(CONFUSION, NAMES)] == [
        ("cat", "dog", 2, 0.2),
        ("dog", "cat", 1, 0.1),
    ]
    assert len(confused_pairs(CONFUSION, NAMES, most=1)) == 1
    assert confused_pairs([[3, 0], [0, 3]], NAMES[:2]) == []


def test_seeds_together() -> None:
    assert pooled([[[1, 2], [3, 4]], [[10, 20], [30, 40]]]) == [[11, 22], [33, 44]]
