"""The number of lanes follows from the images per second of those that were measured, without JAX."""

from __future__ import annotations

import pytest

from objectives.lanes.rates import Measured, best, grows, widths


def _measured(speeds: dict[int, float]) -> list[Measured]:
    return [Measured(width, speed) for width, speed in speeds.items()]


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_numbers_of_lanes_double_up_to_the_largest(most: int, expected: list[int]) -> None:
    assert list(widths(most)) == expected


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({1: 100}, True),
        ({1: 100, 2: 101}, True),
        ({1: 100, 2: 99}, False),
        ({2: 100, 4: 109}, False),
        ({2: 100, 4: 111}, True),
        # A quarter more lanes need not gain as much as twice as many.
        ({4: 100, 5: 105}, True),
        ({4: 100, 5: 101}, False),
    ],
)
def test_speed_grows_while_more_lanes_train_more_images(speeds: dict[int, float], expected: bool) -> None:
    assert grows(_measured(speeds)) is expected


def test_more_lanes_are_chosen_for_a_tenth_more_speed() -> None:
    assert best(_measured({1: 100, 2: 105, 4: 109})) == 1
    assert best(_measured({1: 100, 2: 105, 4: 111})) == 4
    assert best(_measured({1: 100, 2: 190, 4: 300, 8: 310})) == 4


def test_lanes_without_a_trial_in_the_last_round_are_counted() -> None:
    speeds = _measured({1: 100, 2: 150, 4: 200, 5: 205})
    # Five trials in four lanes take two rounds.
    assert best(speeds, 5) == 5
    assert best(speeds, 4) == 4
    assert best(speeds) == 4
