"""The values and configurations of an experiment."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.ablation.points import points_of
from hpo.ablation.values import values_around
from hpo.errors import UnknownParameterError, UsageError
from hpo.search.starting.design import FIRST_SEED, Design, Settings, seeds_of
from objectives.spaces.choices import identity
from objectives.spaces.conditions import When
from objectives.spaces.space import lies_within, stored_space
from tests.unit.analysis.ablation.simulated import BASE, SPACE, design_of

RANGES = [
    (FloatDistribution(0.0, 0.6), 0.2),
    (FloatDistribution(1e-6, 1e-1, log=True), 3.3333e-4),
    (FloatDistribution(0.1, 1.0, step=0.1), 0.3),
    (IntDistribution(1, 7), 1),
    (IntDistribution(8, 512, log=True), 64),
    (IntDistribution(16, 256, step=16), 256),
    (FloatDistribution(-5.0, 5.0), -5.0),
]


@pytest.mark.parametrize(("distribution", "best"), RANGES)
def test_values_hold_the_best_one_both_ends_and_those_for_a_smaller_number(distribution, best) -> None:
    for count in range(3, 9):
        values = values_around(distribution, best, count)
        assert {best, distribution.low, distribution.high} <= {*values}
        assert values == sorted(values)
        assert all(lies_within({"x": value}, {"x": distribution}) for value in values)
        assert len(values) <= count
        assert {*values} <= {*values_around(distribution, best, count + 1)}


def test_values_spread_over_the_scale_of_the_search() -> None:
    assert values_around(FloatDistribution(1e-4, 1e-1, log=True), 1e-2, 6) == [
        1e-4,
        1e-3,
        3.2e-3,
        1e-2,
        3.2e-2,
        1e-1,
    ]
    assert values_around(IntDistribution(1, 3), 2, 9) == [1, 2, 3]
    assert values_around(CategoricalDistribution(["a", "b", "c"]), "b", 2) == ["a", "b", "c"]
    assert values_around(FloatDistribution(1.0, 1.0), 1.0, 5) == [1.0]


def test_each_parameter_varies_alone_and_default_pairs_together() -> None:
    points = design_of(Settings()).points
    assert points[0].params == BASE
    assert len({identity(point.params) for point in points}) == len(points) == 1 + 1 + 4 + 4 + 4
    pairs = [point for point in points if len(point.changed) == 2]
    assert {point.changed for point in pairs} == {("optimizer", "learning_rate")}
    assert all(sum(p.params[name] != BASE[name] for name in BASE) == len(p.changed) for p in points)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(parameters=("dropout",)), 5),
        (Settings(parameters=("optimizer", "dropout"), pairs=(("optimizer", "dropout"),)), 10),
        (Settings(pairs=(), values=3), 1 + 1 + 2 + 2),
        (Settings(parameters=("optimizer",), recipe=True), 3),
    ],
)
def test_settings_choose_the_configurations(settings: Settings, expected: int) -> None:
    assert len(design_of(settings, recipe={"recipe.label_smoothing": "0.1"}).points) == expected


def test_value_that_activates_a_parameter_gives_it_that_of_the_default_or_the_middle() -> None:
    space = stored_space(
        {
            "optimizer": CategoricalDistribution(["adam", "sgd"]),
            "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.9)),
            "beta": When("optimizer", "adam", FloatDistribution(0.5, 0.9)),
        }
    )
    base = {"optimizer": "adam", "beta": 0.9}
    for default, momentum in (({}, 0.45), ({"optimizer": "sgd", "momentum": 0.8}, 0.8)):
        points = points_of(space, base, Settings(values=2, pairs=()), {}, default)
        assert [point.params for point in points] == [
            base,
            {"optimizer": "sgd", "momentum": momentum},
            {"optimizer": "adam", "beta": 0.5},
        ]
        assert [point.changed for point in points] == [(), ("optimizer",), ("beta",)]


def test_unknown_inactive_and_single_valued_parameters_are_refused() -> None:
    with pytest.raises(UnknownParameterError, match="did you mean dropout"):
        design_of(Settings(parameters=("dropuot",)))
    with pytest.raises(UnknownParameterError, match="active for other values"):
        design_of(Settings(parameters=("dropout",)), base={"optimizer": "adam", "learning_rate": 1e-2})
    with pytest.raises(UsageError, match="no parameter of the experiment has a second value"):
        design_of(Settings(), space={"x": FloatDistribution(1.0, 1.0)}, base={"x": 1.0})


def test_extended_design_keeps_its_runs_in_front_and_loses_none() -> None:
    first = design_of(Settings(parameters=("dropout",), seeds=2))
    wider = first.extended(design_of(Settings(values=7, seeds=3)))
    assert wider.points[: len(first.points)] == first.points
    assert [*wider.seeds] == [*seeds_of(3)]
    assert wider.extended(first).points == wider.points
    assert wider.size == len(wider.points) * 3
    assert Design.from_json(wider.to_json()) == wider
    assert min(wider.seeds) == FIRST_SEED
    assert {*SPACE} == {name for point in wider.points for name in point.changed}
