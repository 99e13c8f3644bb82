"""Distributions in words."""

from __future__ import annotations

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.search.space_format import in_words


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        (FloatDistribution(1e-4, 1e-1, log=True), "0.0001 to 0.1, log"),
        (FloatDistribution(0.0, 0.6), "0 to 0.6"),
        (FloatDistribution(0.0, 1.0, step=0.25), "0 to 1, step 0.25"),
        (FloatDistribution(0.5, 0.5), "fixed at 0.5"),
        (IntDistribution(1, 8), "1 to 8, whole numbers"),
        (IntDistribution(2, 8, step=2), "2 to 8, whole numbers, step 2"),
        (CategoricalDistribution([64, 128]), "one of 64, 128"),
        (CategoricalDistribution(["sgd"]), "fixed at sgd"),
    ],
)
def test_in_words(distribution: BaseDistribution, words: str) -> None:
    assert in_words(distribution) == words
