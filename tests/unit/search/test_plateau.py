"""The rule of `--stop-when-flat`."""

from __future__ import annotations

import math

import pytest

from hpo.search.plateau import plateau

FALLING = [1.0 - n / 100 for n in range(80)]


@pytest.mark.parametrize(
    ("values", "finished", "window", "gain", "since_best", "near"),
    [
        ([], 0, 30, None, 0, False),
        ([math.inf] * 40, 40, 30, None, 40, False),
        ([0.5, *[0.6] * 38], 39, 30, None, 38, True),
        ([0.5, *[0.6] * 39], 40, 30, 0.0, 39, True),
        # Half of the trials, where these are more.
        (FALLING, 80, 40, 0.4, 0, False),
        ([*FALLING, *[1.0] * 11], 91, 46, 0.35, 11, False),
        ([*FALLING, *[math.inf] * 80], 160, 80, 0.0, 80, True),
        # Nothing to compare with: no trial was complete before.
        ([*[math.inf] * 30, 0.5, *[math.inf] * 19], 50, 30, None, 19, True),
    ],
)
def test_gain_is_that_of_the_second_half(
    values: list[float], finished: int, window: int, gain: float | None, since_best: int, near: bool
) -> None:
    found = plateau(values)
    assert (found.finished, found.window, found.since_best, found.is_near) == (
        finished,
        window,
        since_best,
        near,
    )
    assert found.gain == (None if gain is None else pytest.approx(gain))


def test_search_is_flat_where_it_gained_no_more_than_the_noise() -> None:
    found = plateau([0.5, *[0.6] * 38, 0.4])
    assert [found.is_flat(deviation) for deviation in (None, 0.05, 0.11)] == [False, False, True]
    assert plateau([0.5] * 40).is_flat(0.0)
