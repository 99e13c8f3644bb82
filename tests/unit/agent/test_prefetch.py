"""When trials are asked for before their slots are free."""

from __future__ import annotations

import pytest

from hpo.agent.prefetch import WORTH, PrefetchedTrial, Prefetcher
from storage.budget import Claim, Counts


def prepared(attempt_id: int) -> PrefetchedTrial:
    return PrefetchedTrial(Claim(attempt_id, attempt_id, 0, 0, 1, 0, {}, True), 1, 0, {})


def counts(budget: int, finished: int = 0, running: int = 2) -> Counts:
    return Counts(budget, finished, 0, 0, running, 0)


def after(asking: float, training: float, slots: int = 2) -> Prefetcher:
    ahead = Prefetcher(slots)
    ahead.asked(asking)
    ahead.trained(training)
    return ahead


def filled(ahead: Prefetcher, budget: int) -> int:
    """How many are asked ahead, one after another, before no more are wanted."""
    number = 0
    while ahead.is_wanted(counts(budget, running=2 + number)):
        number += 1
        ahead.add(ahead.free_place(), prepared(number))
        assert number < 100
    return number


def test_nothing_is_asked_before_it_is_known_what_it_costs() -> None:
    ahead = Prefetcher(2)
    assert not ahead.is_wanted(counts(100))
    ahead.asked(0.1)
    assert not ahead.is_wanted(counts(100))


@pytest.mark.parametrize(
    ("slots", "training_over_asking", "spares"),
    [
        (1, 0.9 * WORTH, 1),
        (8, 0.9 * WORTH, 8),
        (1, 1.1 * WORTH, 0),
        (8, 1.1 * WORTH, 7),
        (8, 3.9 * WORTH, 2),
        (8, 8.1 * WORTH, 0),
    ],
)
def test_as_many_are_asked_ahead_as_slots_may_wait_for(slots, training_over_asking, spares) -> None:
    """An agent that asks for 8 trials, one after another, keeps the last slot waiting 8 times as long."""
    assert filled(after(0.1, 0.1 * training_over_asking, slots), 10_000) == spares


@pytest.mark.parametrize(("budget", "spares"), [(2, 0), (3, 1), (4, 2), (7, 2)])
def test_no_more_are_asked_ahead_than_are_left(budget: int, spares: int) -> None:
    """Two are running."""
    assert filled(after(0.1, 1.0), budget) == spares


def test_what_a_trial_may_take_counts_until_one_has_finished() -> None:
    ahead = Prefetcher(2)
    ahead.asked(0.1)
    ahead.expected(1.0)
    assert filled(ahead, 100) == 2
    ahead = after(0.1, 1e6)
    ahead.expected(1.0)
    assert filled(ahead, 100) == 0


def test_each_spare_has_a_place_of_its_own_until_it_is_trained() -> None:
    ahead = after(0.1, 1.0, slots=3)
    places = []
    for attempt_id in (1, 2, 3):
        places.append(ahead.free_place())
        ahead.add(places[-1], prepared(attempt_id))
    assert sorted(places) == [3, 4, 5]
    assert [spare.claim.attempt_id for spare in ahead] == [1, 2, 3]
    ahead.drop({2, 77})
    assert [spare.claim.attempt_id for spare in ahead] == [1, 3]
    assert ahead.free_place() == places[1]


def test_durations_are_moving_averages() -> None:
    ahead = after(0.1, 1e6)
    assert filled(ahead, 100) == 0
    for _ in range(60):
        ahead.trained(1.0)
    assert filled(ahead, 100) == 2
