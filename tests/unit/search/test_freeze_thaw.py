"""The rule of freeze-thaw: pauses at rungs, promotions and the end of a study."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from hpo.search.freeze_thaw import FreezeThaw, Ladder, Level
from tests.specs import THIRDS


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, ()), (2, (1,)), (3, (1,)), (5, (2,)), (12, (2, 4)), (27, (1, 3, 9)), (30, (2, 4, 10))],
)
def test_rungs_divide_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert FreezeThaw(epochs=epochs, levels=THIRDS).rungs == rungs


@pytest.mark.parametrize(("epochs", "rungs"), [(1, ()), (2, (1,)), (3, (1,)), (8, (3,)), (15, (5,))])
def test_default_rung_is_a_third_of_the_epochs(epochs: int, rungs: tuple[int, ...]) -> None:
    assert FreezeThaw(epochs=epochs).rungs == rungs


def test_each_rung_has_a_quota_of_its_own() -> None:
    rule = FreezeThaw(epochs=10, levels=(Level(Fraction(1, 4), 2), Level(Fraction(2, 3), 4)))
    assert rule.rungs == (3, 7)
    assert (rule.quota(3, 9), rule.quota(7, 9)) == (4, 2)
    ladder = Ladder(rule)
    assert [ladder.report(trial, 3, score) for trial, score in enumerate((0.3, 0.2))] == [False, True]
    assert ladder.report(2, 7, 0.1) is False


def test_first_trials_pause_until_one_is_among_the_best_third() -> None:
    ladder = Ladder(FreezeThaw(epochs=9, levels=THIRDS))

    assert [ladder.report(trial, 1, score) for trial, score in enumerate((0.5, 0.3, 0.4))] == [False] * 3
    # Of three, the best goes on.
    assert ladder.thaw() == 1
    assert ladder.thaw() is None
    assert ladder.report(3, 1, 0.6) is False
    assert ladder.report(4, 1, 0.2) is True, "a new trial among the best third goes on at once"
    assert ladder.thaw() is None, "of five, only one goes on"
    assert ladder.report(5, 1, 0.7) is False
    assert ladder.thaw() is None, "the two best have gone on"
    assert ladder.paused() == [0, 2, 3, 5]


def test_highest_rung_is_served_first() -> None:
    ladder = Ladder(FreezeThaw(epochs=27, levels=THIRDS))
    for trial in range(12):
        ladder.report(trial, 1, trial / 100)
    promoted = [ladder.thaw() for _ in range(3)]
    assert promoted == [0, 1, 2]
    assert [ladder.report(trial, 3, 1 - trial / 100) for trial in (0, 1)] == [False, False]
    assert ladder.report(2, 3, 0.1) is True
    # Trial 3 is promotable at rung 1, trial 1 at rung 3 only after more have reached it.
    assert ladder.thaw() == 3


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_trial_without_a_finite_score_never_goes_on(score: float) -> None:
    ladder = Ladder(FreezeThaw(epochs=3, levels=THIRDS))
    for trial in range(6):
        assert ladder.report(trial, 1, score) is False
    assert ladder.thaw() is None
    assert ladder.finish(complete=0) is None


def test_equal_scores_are_ranked_by_number() -> None:
    ladder = Ladder(FreezeThaw(epochs=3, levels=THIRDS))
    for trial in (2, 0, 1):
        ladder.report(trial, 1, 0.5)
    assert ladder.thaw() == 0


def test_best_paused_trial_of_the_highest_rung_is_trained_to_the_end_if_none_is_complete() -> None:
    ladder = Ladder(FreezeThaw(epochs=9, levels=THIRDS))
    assert [ladder.report(trial, 1, score) for trial, score in enumerate((0.4, 0.3))] == [False, False]
    assert ladder.thaw() is None

    assert ladder.finish(complete=0) == 1
    assert ladder.report(1, 3, 0.3) is False
    assert ladder.finish(complete=0) == 1
    assert ladder.finish(complete=1) is None
    assert ladder.paused() == [0]


@pytest.mark.parametrize("seed", range(3))
def test_worst_half_of_each_rung_stays_paused(seed: int) -> None:
    """Scores of the same trials do not change their order from rung to rung."""
    rule, scores = FreezeThaw(epochs=27, levels=THIRDS), random.Random(seed).sample(range(60), 60)
    ladder, at, new = Ladder(rule), dict[int, int](), iter(range(60))
    while (trial := ladder.thaw()) is not None or (trial := next(new, None)) is not None:
        for rung in (*rule.rungs, rule.epochs):
            if rung <= at.get(trial, 0):
                continue
            at[trial] = rung
            if rung < rule.epochs and not ladder.report(trial, rung, scores[trial]):
                break
    assert at[scores.index(0)] == rule.epochs, "the best trial is complete"
    assert {at[scores.index(rank)] for rank in range(30, 60)} <= {1, 3}
    assert sum(at.values()) < 60 * rule.epochs / 3
