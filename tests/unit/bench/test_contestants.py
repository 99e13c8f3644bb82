"""Contestants of each round of a comparison."""

from __future__ import annotations

import argparse

import pytest

from bench.contestants import in_turn, parse_contestants


def names(value: str, round_number: int) -> list[str]:
    return [contestant.name for contestant in in_turn(parse_contestants(value), round_number)]


def test_each_round_begins_with_another_contestant() -> None:
    assert names("hpo,kerastuner,ray", 0) == ["hpo launch", "KerasTuner", "Ray Tune"]
    assert names("hpo,kerastuner,ray", 1) == ["KerasTuner", "Ray Tune", "hpo launch"]
    assert names("hpo,kerastuner,ray", 3) == ["hpo launch", "KerasTuner", "Ray Tune"]


def test_contestant_can_be_limited_to_fewer_rounds() -> None:
    assert names("hpo,kerastuner:2,ray:1", 0) == ["hpo launch", "KerasTuner", "Ray Tune"]
    assert names("hpo,kerastuner:2,ray:1", 1) == ["KerasTuner", "hpo launch"]
    assert names("hpo,kerastuner:2,ray:1", 2) == ["hpo launch"]
    assert names("ray:1", 1) == []


@pytest.mark.parametrize("value", ["", "hpo,", "raytune", "ray:", "ray:0", "ray:some"])
def test_unknown_contestants_are_refused_with_the_known_names(value: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="kerastuner, ray"):
        parse_contestants(value)
