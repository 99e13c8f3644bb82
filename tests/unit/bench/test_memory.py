"""Medians over the rounds of the memory benchmark."""

from __future__ import annotations

from bench.memory import _medians


def test_medians_skip_columns_without_values() -> None:
    rounds = [{"all": 10.0, "agent": None}, {"all": 30.0, "agent": None}, {"all": 11.0, "agent": None}]
    assert _medians(rounds) == {"all": 11.0, "agent": None}
    assert _medians([{"all": 1.0, "agent": 2.0}, {"all": 3.0, "agent": None}]) == {"all": 2.0, "agent": 2.0}
