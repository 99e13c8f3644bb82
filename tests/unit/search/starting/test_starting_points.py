"""Configurations of a study's first trials: known good ones, then the best of earlier studies."""

from __future__ import annotations

from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from hpo.search.spec import StudySpec
from hpo.search.starting.learned import BEST, EarlierStudy, summarized
from hpo.search.starting.starting_points import starting_points
from objectives.base import Params
from objectives.spaces.choices import categorical
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space
from tests.specs import spec

SPACE = {"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 9), "kind": categorical(["a", "b"])}


def earlier(*configurations: Params, study: str = "before") -> EarlierStudy:
    return summarized(study, configurations)


def points(*learned: EarlierStudy, space: Any = SPACE, startup: int = 10, first: Any = ()) -> list[Params]:
    return starting_points(spec(space, learned=learned, startup=startup, first=first))


def test_known_good_configurations_come_first_and_are_not_repeated() -> None:
    known, other = {"x": 0.5, "n": 3, "kind": "a"}, {"x": 0.25, "n": 3, "kind": "a"}
    assert points(earlier(known, other, other), first=(known,)) == [known, other]


def test_studies_take_turns_within_half_of_the_trials_before_a_model() -> None:
    one = earlier(*({"x": place / 10} for place in range(5)))
    two = earlier(*({"x": 0.9 - place / 100} for place in range(5)), study="two")
    assert points(one, two) == [{"x": value} for value in (0.0, 0.9, 0.1)]
    assert points(one, two, startup=5) == [{"x": 0.0}, {"x": 0.9}]
    assert points() == []


def test_parts_outside_the_space_are_left_to_the_sampler() -> None:
    space = stored_space(SPACE | {"z": When("kind", "b", FloatDistribution(0.0, 1.0))})
    odd = earlier(
        {"x": 0.5, "n": 100, "kind": "b", "z": 0.5, "removed": 1},
        {"x": 0.75, "kind": "a", "z": 0.5},
        {"x": 7.0, "n": 0, "kind": "c"},
    )
    assert points(odd, space=space) == [{"x": 0.5, "kind": "b", "z": 0.5}, {"x": 0.75, "kind": "a"}]


def test_best_trials_are_kept_in_the_spec() -> None:
    ranked = [{"x": place / 1000} for place in range(1000)]
    # The best one was repeated.
    found = summarized("before", [*ranked[:1] * BEST, *ranked])
    assert (found.trials, found.configurations) == (1000 + BEST, tuple(ranked[:BEST]))
    assert found.is_valid
    stored = spec(SPACE, learned=(found,))
    assert StudySpec.from_json(stored.to_json()) == stored
