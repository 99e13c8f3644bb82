"""A model of learning curves: its view of configurations and scores, and what it recommends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import UsageError
from hpo.search.curve_model.curves import MODELLED, Curve, State, part_of, state_of
from hpo.search.curve_model.encoding import Encoding
from hpo.search.curve_model.scaling import scaled
from hpo.search.curve_model.scheduler import Scheduler
from hpo.study.definition.launch_options import check_curves
from objectives.base import Params
from objectives.spaces.choices import contains
from objectives.spaces.conditions import When
from objectives.spaces.space import lies_within, stored_space
from tests.specs import spec

SPACE = stored_space(
    {
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "part": FloatDistribution(0.0, 1.0, step=0.25),
        "layers": IntDistribution(1, 4),
        "width": IntDistribution(8, 64, log=True),
        "batch": CategoricalDistribution([32, 64, 128]),
        "optimizer": CategoricalDistribution(["sgd", "adam", "lion"]),
        "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.99)),
        "fixed": FloatDistribution(0.5, 0.5),
    }
)
EPOCHS = 8
LINE = {"x": FloatDistribution(0.0, 1.0)}


def curve(number: int, x: float, epoch: int, state: State = "paused", scale: float = 1.0) -> Curve:
    """Return the curve of a trial whose loss is least at 0.3, in steps of one epoch."""
    scores = {at: scale * (0.1 + (x - 0.3) ** 2 + 0.5 / at) for at in range(1, epoch + 1)}
    return Curve(trial=100 + number, ordinal=number, params={"x": x}, scores=scores, state=state)


def scheduler(**options: Any) -> Scheduler:
    return Scheduler(space=LINE, epochs=EPOCHS, seed=0, startup=4, **options)


def spread(epoch: int = 2, number: int = 9, **options: Any) -> list[Curve]:
    return [curve(place, place / (number - 1), epoch, **options) for place in range(number)]


def test_configurations_lie_in_the_space_and_its_points_in_the_unit_cube() -> None:
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    drawn = encoding.draw(200, rng)
    near = encoding.near(drawn[0], 200, rng)
    assert all(lies_within(params, SPACE) for params in (*drawn, *near))
    points = encoding.points([*drawn, *near])
    assert points.shape == (400, 10)
    assert points.min() >= 0
    assert points.max() <= 1
    assert {params["optimizer"] for params in drawn} == {"sgd", "adam", "lion"}
    same = sum(params["batch"] == drawn[0]["batch"] for params in near)
    assert same > sum(params["batch"] == drawn[0]["batch"] for params in drawn)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"rate": 100.0, "batch": 256, "optimizer": "sgd"},
        {"rate": 1e-9, "layers": 9, "optimizer": "rmsprop", "other": 1},
        {"batch": "32", "momentum": 0.5},
    ],
)
def test_configurations_of_a_changed_space_are_points_too(params: Params) -> None:
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    assert np.isfinite(encoding.points([params])).all()
    assert all(lies_within(found, SPACE) for found in encoding.near(params, 20, rng))


def test_widest_ranges_and_largest_integers_are_modelled() -> None:
    space = {
        "x": FloatDistribution(-1e308, 1e308),
        "n": IntDistribution(0, 2**63),
        "k": IntDistribution(1, 9, step=4),
    }
    encoding, rng = Encoding(space), np.random.default_rng(0)
    drawn = encoding.draw(50, rng)
    assert all(lies_within(found, space) for found in [*drawn, *encoding.near(drawn[0], 50, rng)])
    assert {found["k"] for found in drawn} == {1, 5, 9}
    points = encoding.points(drawn)
    assert points.min() >= 0
    assert points.max() <= 1
    assert points[:, :2].std(axis=0).min() > 0.2


@pytest.mark.parametrize(
    "scores",
    [
        [0.5, 0.1, 0.9, 0.0],
        [-0.99, -0.5, -0.98, -0.1],
        [-50.0, 3.0, -49.0, 1000.0],
        [1e300, 5.0, 1e-300, 7.0],
        [2.0, 2.0, 2.0],
        [0.0, 0.0],
    ],
)
def test_better_scores_are_larger_on_the_scale_of_any_metric(scores: Sequence[float]) -> None:
    found = scaled(np.array([*scores, math.inf, math.nan]))
    assert np.isfinite(found).all()
    ranked = np.argsort(scores, kind="stable")
    assert (np.diff(found[ranked]) <= 1e-12).all()
    assert found[-1] == found[-2] < found[:-2].min()


def test_scores_of_which_none_is_finite_are_equal() -> None:
    assert scaled(np.array([math.inf, math.nan])).tolist() == [0.0, 0.0]


def test_model_learns_from_a_bounded_part_with_the_best_and_the_latest() -> None:
    curves = [curve(number, (number * 7 % 1000) / 1000, 1) for number in range(1000)]
    part = part_of(curves[::-1])
    assert len(part) <= MODELLED
    assert [one.ordinal for one in part] == sorted(one.ordinal for one in part)
    assert min(curves, key=lambda one: one.score) in part
    assert curves[-1] in part
    assert part == part_of(curves)


def test_model_learns_from_few_epochs_of_a_curve() -> None:
    assert curve(0, 0.5, 1).learned == [1]
    assert curve(0, 0.5, 8).learned == [2, 4, 8]
    far = Curve(trial=1, ordinal=1, params={}, scores={6: 1.0, 12: 0.5, 50: 0.2}, state="ended")
    assert far.learned == [6, 12, 50]


def test_new_configurations_begin_before_the_model_knows_enough() -> None:
    one = scheduler()
    assert one.ranking([], 0, begins=True) == [None]
    assert one.ranking(spread(number=3), 3, begins=True) == [None]
    assert one.ranking([], 3, begins=False) == []
    assert not one.continues(spread(number=3), spread(number=3)[0], 3, begins=True)


def test_decisions_depend_on_the_seed_and_the_curves_alone() -> None:
    curves = spread()
    one, other = scheduler(), scheduler()
    other.ranking(spread(number=7), 7, begins=True)
    expected = one.ranking(curves, 9, begins=True)
    assert other.ranking(curves[::-1], 9, begins=True) == expected
    assert {None, *(found.trial for found in curves)} == set(expected)
    proposals = [found.propose(curves, 9, np.random.default_rng(1)) for found in (one, other)]
    assert proposals[0] == proposals[1]
    assert state_of(curves) == state_of(curves[::-1]) != state_of(curves[1:])


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_promising_trials_and_configurations_come_first(scale: float) -> None:
    curves = spread(scale=scale)
    one = scheduler()
    ranked = [trial for trial in one.ranking(curves, 9, begins=True) if trial is not None]
    # Those at 0.25 and 0.375 are nearest to the best; that at 1 is worst.
    assert set(ranked[:2]) <= {101, 102, 103, 104}
    assert ranked[-1] in {107, 108}
    proposed = [one.propose(curves, 9, np.random.default_rng(seed))["x"] for seed in range(10)]
    assert np.median(np.abs(np.array(proposed) - 0.3)) < 0.15


def test_running_trial_goes_on_only_while_it_promises_most() -> None:
    curves = spread()
    best, worst = curves[2], curves[8]
    one = scheduler(margin=0.0)
    assert one.continues(curves, worst, 9, begins=True) is False
    assert one.continues([best, *(curve(place, 1.0, 2) for place in range(3, 9))], best, 9, begins=False)


def test_paused_trial_that_may_become_the_best_goes_on_where_no_configuration_is_left() -> None:
    ended = [curve(place, 0.9, EPOCHS, "ended") for place in range(5)]
    promising, hopeless = curve(5, 0.3, 4), curve(6, 1.0, 4)
    ranked = scheduler().ranking([*ended, promising, hopeless], 7, begins=False)
    assert ranked[0] == promising.trial
    # Its score after half of its epochs is better than all complete ones already.
    ahead = Curve(trial=9, ordinal=9, params={"x": 0.5}, scores={4: 0.01}, state="paused")
    assert ahead.trial in scheduler().ranking([*ended, hopeless, ahead], 8, begins=False)
    best = [curve(place, 0.3, EPOCHS, "ended") for place in range(5)]
    assert scheduler().ranking([*best, hopeless], 6, begins=False) == []


def test_trials_with_the_best_ends_go_on_until_enough_are_complete() -> None:
    """None has a chance to become the best: of those that run and those that are paused, the best one goes on."""
    better, worse = curve(8, 0.8, 4), curve(9, 0.9, 4, "running")
    for complete in (2, 3):
        ended = [curve(place, 0.3, EPOCHS, "ended") for place in range(complete)]
        paused = [curve(place, 1.0, 2) for place in range(complete, 8)]
        alone = [*ended, *paused, worse]
        assert scheduler().ranking(alone, 10, begins=False) == []
        assert scheduler().continues(alone, worse, 10, begins=False) is (complete < 3)
        both = [*alone, better]
        assert scheduler().ranking(both, 10, begins=False) == ([better.trial] if complete < 3 else [])
        assert not scheduler().continues(both, worse, 10, begins=False)


def test_trial_whose_score_is_not_finite_stays_paused() -> None:
    broken = [
        Curve(trial=number, ordinal=number, params={"x": number / 9}, scores={2: math.inf}, state="paused")
        for number in range(9)
    ]
    assert scheduler().ranking(broken, 9, begins=True) == [None]
    assert not scheduler().continues(broken, broken[0], 9, begins=False)
    assert contains(LINE["x"], scheduler().propose(broken, 9, np.random.default_rng(0))["x"])
    # The others go on.
    assert set(scheduler().ranking([*broken, *spread()], 18, begins=False)) == {one.trial for one in spread()}


def test_conditional_spaces_are_modelled() -> None:
    one = Scheduler(space=SPACE, epochs=EPOCHS, seed=0, startup=4)
    drawn = one.encoding.draw(12, np.random.default_rng(0))

    def score(params: Mapping[str, Any], at: int) -> float:
        return float(params["layers"]) + params.get("momentum", 0.5) + 1 / at

    curves = [
        Curve(
            trial=number,
            ordinal=number,
            params=params,
            scores={at: score(params, at) for at in (1, 2)},
            state="paused",
        )
        for number, params in enumerate(drawn)
    ]
    assert lies_within(one.propose(curves, 12, np.random.default_rng(0)), SPACE)
    assert len(one.ranking(curves, 12, begins=True)) == 13


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pruner": "median"}, "the study was not created with --pruner freeze-thaw"),
        (
            {"pruner": "freeze-thaw", "rungs": ((1, 3),)},
            "the study began with an earlier version, which compares ranks",
        ),
        (
            {"pruner": "freeze-thaw", "rungs": ((1, 3),), "restarts": (9,)},
            "the study has compared ranks since its --epochs were raised",
        ),
        ({"pruner": "freeze-thaw", "open_space": True}, "the objective names its parameters while it runs"),
    ],
)
def test_sampler_of_curves_is_refused_without_their_model(options: dict[str, Any], reason: str) -> None:
    check_curves(spec(sampler="curves", pruner="freeze-thaw", curve_model=True))
    with pytest.raises(UsageError, match=f"but {reason}: use another sampler"):
        check_curves(spec(sampler="curves", **options))
