"""Error rates and power of the comparisons over 1,000 simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.analysis.ablation.contrasts import contrasts_of, critical_value
from hpo.analysis.ablation.noise import noise_of
from tests.unit.analysis.ablation.simulated import noisy

EXPERIMENTS, POINTS, SEEDS = 1000, 16, 3
PAIRS = [(point, 0) for point in range(1, POINTS)]


def share_with_an_error(kinds: str) -> float:
    """Return the share of experiments that find an effect where there is none.

    `kinds` names further points: `c` for one that learns nothing, `u` for one that works from some seeds alone.
    """
    rng = np.random.default_rng(1)
    pairs = [*PAIRS, *((POINTS + place, 0) for place in range(len(kinds)))]
    wrong = 0
    for _ in range(EXPERIMENTS):
        values = noisy([0.0] * POINTS, SEEDS, rng)
        more = [np.full(SEEDS, 0.098) if kind == "c" else rng.uniform(0.1, 0.99, SEEDS) for kind in kinds]
        every = np.vstack([values, *more])
        found = contrasts_of(every, pairs, noise_of(every, [[1], [2, 3, 4, 5], [6, 7]]))
        wrong += any(one.is_better or one.is_worse for one in found[: len(PAIRS)])
    return wrong / EXPERIMENTS


@pytest.mark.parametrize("kinds", ["", "ccccuu"])
def test_at_most_one_experiment_in_twenty_finds_an_effect_that_is_none(kinds: str) -> None:
    # Three standard errors of a share of 1,000.
    assert share_with_an_error(kinds) <= 0.05 + 0.021


def test_intervals_contain_all_true_effects_and_real_effects_are_found() -> None:
    rng = np.random.default_rng(2)
    effects = np.array([0.0, -0.004, 0.0, -0.02, *np.linspace(-0.003, 0.003, POINTS - 4)])
    covered = found = 0
    for _ in range(EXPERIMENTS):
        values = noisy(list(effects), SEEDS, rng)
        contrasts = contrasts_of(values, PAIRS, noise_of(values))
        covered += all(
            one.interval is not None and one.interval[0] <= effects[one.point] <= one.interval[1]
            for one in contrasts
        )
        found += contrasts[0].is_worse and contrasts[2].is_worse
    assert 0.95 - 0.021 <= covered / EXPERIMENTS <= 0.95 + 0.021
    # Four and twenty standard deviations of a run.
    assert found / EXPERIMENTS > 0.95


def test_critical_value_is_that_of_dunnett() -> None:
    """Dunnett, "New tables for multiple comparisons with a control" (1964): two-sided, 5 %."""
    for comparisons, freedom, expected in ((1, 10, 2.23), (4, 20, 2.65), (9, 60, 2.74)):
        pairs = tuple((point, 0) for point in range(1, comparisons + 1))
        assert critical_value(pairs, freedom) == pytest.approx(expected, abs=0.05)
