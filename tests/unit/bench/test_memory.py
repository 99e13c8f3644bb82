"""What several rounds of the memory benchmark come down to."""

from __future__ import annotations

from bench.memory import _medians


def test_medians_of_columns_that_not_every_contestant_has() -> None:
    rounds = [{"all": 10.0, "agent": None}, {"all": 30.0, "agent": None}, {"all": 11.0, "agent": None}]
    assert _medians(rounds) == {"all": 11.0, "agent": None}
    assert _medians([{"all": 1.0, "agent": 2.0}, {"all": 3.0, "agent": None}]) == {"all": 2.0, "agent": 2.0}
