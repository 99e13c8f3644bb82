"""Number of trials that are prefetched."""

from __future__ import annotations

import pytest

from hpo.agent.prefetch import MOST_PASSED, WORTH, PrefetchedTrial, Prefetcher
from storage.budget import Counts
from storage.claiming.claims import Claim


def prepared(attempt_id: int) -> PrefetchedTrial:
    claim = Claim(reservation_id=attempt_id, attempt_id=attempt_id, ordinal=0, seed=0, fresh=True)
    return PrefetchedTrial(claim, 1, 0, {})


def counts(budget: int, finished: int = 0, running: int = 2) -> Counts:
    return Counts(budget=budget, complete=finished, running=running)


def after(asking: float, training: float, slots: int = 2) -> Prefetcher:
    prefetcher = Prefetcher(slots)
    prefetcher.record_claim(asking)
    prefetcher.record_trial(training)
    return prefetcher


def filled(prefetcher: Prefetcher, budget: int) -> int:
    """Return how many trials are prefetched, one after another, before no more are wanted."""
    number = 0
    while prefetcher.wants_more(counts(budget, running=2 + number)):
        number += 1
        prefetcher.add(prefetcher.free_slot(), prepared(number))
        assert number < 100
    return number


def test_nothing_is_prefetched_before_claims_and_trials_are_measured() -> None:
    prefetcher = Prefetcher(2)
    assert not prefetcher.wants_more(counts(100))
    prefetcher.record_claim(0.1)
    assert not prefetcher.wants_more(counts(100))


@pytest.mark.parametrize(
    ("slots", "training_over_asking", "queued"),
    [
        (1, 0.9 * WORTH, 1),
        (8, 0.9 * WORTH, 8),
        (1, 1.1 * WORTH, 0),
        (8, 1.1 * WORTH, 7),
        (8, 3.9 * WORTH, 2),
        (8, 8.1 * WORTH, 0),
    ],
)
def test_queue_holds_as_many_trials_as_slots_may_wait_for(slots, training_over_asking, queued) -> None:
    """An agent that claims 8 trials, one after another, keeps the last slot waiting 8 times as long."""
    assert filled(after(0.1, 0.1 * training_over_asking, slots), 10_000) == queued


@pytest.mark.parametrize(("budget", "queued"), [(2, 0), (3, 1), (4, 2), (7, 2)])
def test_queue_holds_no_more_trials_than_the_budget_has_left(budget: int, queued: int) -> None:
    """Two are running."""
    assert filled(after(0.1, 1.0), budget) == queued


def test_estimate_counts_until_a_trial_has_finished() -> None:
    prefetcher = Prefetcher(2)
    prefetcher.record_claim(0.1)
    prefetcher.estimate_trial(1.0)
    assert filled(prefetcher, 100) == 2
    prefetcher = after(0.1, 1e6)
    prefetcher.estimate_trial(1.0)
    assert filled(prefetcher, 100) == 0


def test_prefetched_trial_keeps_its_own_slot_until_it_is_trained() -> None:
    prefetcher = after(0.1, 1.0, slots=3)
    slots_used = []
    for attempt_id in (1, 2, 3):
        slots_used.append(prefetcher.free_slot())
        prefetcher.add(slots_used[-1], prepared(attempt_id))
    assert sorted(slots_used) == [3, 4, 5]
    assert [trial.claim.attempt_id for trial in prefetcher] == [1, 2, 3]
    prefetcher.discard({2, 77})
    assert [trial.claim.attempt_id for trial in prefetcher] == [1, 3]
    assert prefetcher.free_slot() == slots_used[1]


def test_durations_are_moving_averages() -> None:
    prefetcher = after(0.1, 1e6)
    assert filled(prefetcher, 100) == 0
    for _ in range(60):
        prefetcher.record_trial(1.0)
    assert filled(prefetcher, 100) == 2


def test_trial_of_the_shape_of_a_lanes_neighbours_goes_first_but_no_trial_waits_for_ever() -> None:
    prefetcher = after(0.1, 0.1, slots=4)
    assert prefetcher.choose(lambda _: True) is None
    first, second, third = (prepared(number) for number in (1, 2, 3))
    for number, trial in enumerate((first, second, third)):
        prefetcher.add(number, trial)
    assert prefetcher.choose(lambda _: False) is first, "none is preferred"
    for _ in range(MOST_PASSED):
        assert prefetcher.choose(lambda one: one is third) is third
    assert prefetcher.choose(lambda one: one is third) is first


def test_some_trials_are_prefetched_for_lanes_of_different_shapes_though_slots_would_not_wait() -> None:
    prefetcher = after(0.001, 1000.0, slots=8)
    assert filled(prefetcher, 100) == 0
    prefetcher.least = 4
    assert filled(prefetcher, 100) == 4
