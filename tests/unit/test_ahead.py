"""When a trial is asked for before its slot is free."""

from __future__ import annotations

import pytest

from hpo.ahead import WORTH, Ahead, Prepared
from storage.budget import Claim, Counts

PREPARED = Prepared(Claim(1, 1, 0, 0, 1, 0, {}, True), 1, 0, {})


def counts(budget: int, finished: int = 0, running: int = 2) -> Counts:
    return Counts(budget, finished, 0, 0, running, 0)


def after(asking: float, training: float) -> Ahead:
    ahead = Ahead()
    ahead.asked(asking)
    ahead.trained(training)
    return ahead


def test_nothing_is_asked_before_it_is_known_what_it_costs() -> None:
    ahead = Ahead()
    assert not ahead.is_wanted(counts(100))
    ahead.asked(0.1)
    assert not ahead.is_wanted(counts(100))


@pytest.mark.parametrize(("training", "wanted"), [(0.1 * WORTH * 0.9, True), (0.1 * WORTH * 1.1, False)])
def test_only_short_trials_are_asked_ahead(training: float, wanted: bool) -> None:
    assert after(0.1, training).is_wanted(counts(100)) is wanted


@pytest.mark.parametrize(("budget", "wanted"), [(2, False), (4, False), (5, True)])
def test_the_last_trials_are_left_to_whoever_is_idle(budget: int, wanted: bool) -> None:
    """Two are running: with fewer than three more to begin, each running slot may end first."""
    assert after(0.1, 1.0).is_wanted(counts(budget)) is wanted


def test_one_spare_at_a_time() -> None:
    ahead = after(0.1, 1.0)
    ahead.spare = PREPARED
    assert not ahead.is_wanted(counts(100))
    assert ahead.take() is PREPARED
    assert ahead.take() is None
    assert ahead.is_wanted(counts(100))


def test_durations_are_moving_averages() -> None:
    ahead = after(0.1, 100.0)
    for _ in range(30):
        ahead.trained(1.0)
    assert ahead.is_wanted(counts(100))
