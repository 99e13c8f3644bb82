"""Descriptions of distributions."""

from __future__ import annotations

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.search.space import describe_distribution


@pytest.mark.parametrize(
    ("distribution", "text"),
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
def test_distribution_is_described_in_short(distribution: BaseDistribution, text: str) -> None:
    assert describe_distribution(distribution) == text
