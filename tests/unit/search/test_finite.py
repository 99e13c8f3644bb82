"""Configurations of finite spaces."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from hpo.search import finite
from objectives.spaces.choices import categorical
from objectives.spaces.conditions import When, at_least
from objectives.spaces.space import lies_within, stored_space

KINDS: dict[str, Any] = {"kind": categorical([1, True, "1", None]), "n": IntDistribution(1, 3)}


@pytest.mark.parametrize(
    ("space", "number"),
    [
        ({}, 1),
        (KINDS, 12),
        ({"n": IntDistribution(2, 8, step=3)}, 3),
        ({"n": IntDistribution(1, 8, log=True)}, 8),
        ({"x": FloatDistribution(0.0, 1.0, step=0.1)}, 11),
        ({"x": FloatDistribution(0.5, 0.5)}, 1),
        (KINDS | {"z": When("n", at_least(2), categorical(["a", "b"]))}, 4 * (1 + 2 * 2)),
        (
            {
                "a": categorical(["x", "y"]),
                "b": When("a", "x", categorical([1, 2])),
                "c": When("b", 2, IntDistribution(1, 3)),
            },
            1 + 1 + 3,
        ),
        ({name: IntDistribution(1, 10) for name in "abcd"}, finite.MOST),
        ({name: IntDistribution(1, 10) for name in "abcde"}, None),
        ({name: IntDistribution(1, 10) for name in "abcdefghijklmnopqrstuvwxyz"}, None),
        ({"x": FloatDistribution(0.0, 1.0)}, None),
        ({"kind": categorical(["a", "b"]), "x": When("kind", "a", FloatDistribution(0.0, 1.0))}, None),
    ],
)
def test_each_configuration_of_a_finite_space_is_enumerated_once(space: Any, number: int | None) -> None:
    space = stored_space(space)
    found = finite.configurations(space)
    assert (found and len(found)) == number == finite.size(space)
    assert (finite.problem(space) is None) == (number is not None)
    if found is not None:
        assert len({finite.key(params) for params in found}) == number
        assert all(lies_within(params, space) for params in found)


def test_order_is_shuffled_by_the_seed_and_repeatable() -> None:
    def order(seed: int) -> list[str]:
        kept: list[str] = []
        for _ in range(12):
            kept.append(finite.key(finite.untried(KINDS, finite.shuffled(KINDS, seed), {}, (), kept)))
        return kept

    assert order(1) == order(1) != order(2)
    assert (
        set(order(1))
        == set(order(2))
        == {finite.key(params) for params in finite.configurations(KINDS) or []}
    )


def test_fixed_values_are_kept_and_failed_configurations_come_last() -> None:
    space = {"x": FloatDistribution(0.0, 1.0, step=0.1), "n": IntDistribution(1, 2)}
    one, two = ({"x": 3 * 0.1, "n": n} for n in (1, 2))
    order = finite.shuffled(space, 0)
    # Someone has typed 0.3.
    assert finite.untried(space, order, {"x": 0.3}, [finite.key(one)], []) == two
    assert finite.untried(space, order, {"x": 0.3}, [finite.key(one)], [finite.key(two)]) == one
    # Asked for again.
    assert finite.untried(space, order, two, [], [finite.key(two)]) == two


MIXED = {"kind": categorical(["plain", "deep"]), "x": When("kind", "deep", FloatDistribution(0.0, 1.0))}


def nearby(
    space: Any, proposed: Any, *, fixed: Any = None, failed: Any = (), kept: Any = (), seed: int = 0
) -> dict[str, Any]:
    order = finite.configurations(space)
    tried = [[finite.key(params) for params in some] for some in (failed, kept)]
    return finite.untried_nearby(space, order, proposed, fixed or {}, *tried, seed=seed)


@pytest.mark.parametrize(
    ("space", "repeats"),
    [
        (KINDS, True),
        (MIXED, True),
        ({}, True),
        ({name: IntDistribution(1, 10) for name in "abcde"}, True),
        ({"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 2)}, False),
        ({"x": FloatDistribution(0.5, 0.5), "n": IntDistribution(1, 2)}, True),
    ],
)
def test_samplers_may_repeat_a_configuration_without_a_continuous_parameter(
    space: Any, repeats: bool
) -> None:
    assert finite.may_repeat(stored_space(space)) is repeats


def test_untried_configuration_nearest_to_a_tried_one_is_taken() -> None:
    space = stored_space(
        {
            "size": categorical([16, 64, 32]),
            "n": IntDistribution(1, 1000, log=True),
            "kind": categorical(["a", "b"]),
        }
    )
    proposed = {"size": 16, "n": 10, "kind": "a"}
    assert nearby(space, proposed) == proposed
    tried = [proposed]
    found = [nearby(space, proposed, kept=tried)]
    assert found == [{"size": 16, "n": 11, "kind": "a"}]
    for _ in range(40):
        found.append(nearby(space, proposed, kept=[*tried, *found]))
    assert len({finite.key(params) for params in found}) == 41
    # A third of 1 to 1000 on a logarithmic scale is nearer than another kind.
    assert {params["kind"] for params in found} == {"a"}
    # Half the scale of sizes away, as 32 is from 16.
    assert {params["size"] for params in found} == {16}
    # Failed ones come last, and the given values stay.
    assert nearby(space, proposed, fixed={"n": 10, "kind": "a"}, kept=tried)["size"] == 32
    left = [{"size": size, "n": 10, "kind": "a"} for size in (32, 64)]
    assert nearby(space, proposed, fixed={"n": 10, "kind": "a"}, kept=tried, failed=left[:1]) == left[1]
    assert (
        nearby(space, proposed, fixed={"n": 10, "kind": "a"}, kept=[*tried, left[1]], failed=left[:1])
        == left[0]
    )
    # Asked for again, as a whole or where nothing else is left.
    assert nearby(space, proposed, fixed=proposed, kept=tried) == proposed
    assert nearby(space, proposed, fixed={"n": 10, "kind": "a"}, kept=[*tried, *left]) == proposed


def test_float_with_very_many_steps_is_drawn_without_a_list_of_them() -> None:
    space = {"x": FloatDistribution(0.0, 1e3, step=1e-9)}
    found = nearby(space, {"x": 0.0}, kept=[{"x": 0.0}])["x"]
    assert 0.0 < found <= 1e3


def test_equally_near_configurations_are_chosen_by_the_seed() -> None:
    space = {"n": IntDistribution(1, 9), "m": IntDistribution(1, 9)}
    proposed = {"n": 5, "m": 5}
    found = [nearby(space, proposed, kept=[proposed], seed=seed) for seed in [*range(20), *range(20)]]
    assert found[:20] == found[20:]
    assert len({finite.key(params) for params in found}) == 4


@pytest.mark.parametrize(
    ("space", "proposed"),
    [
        (MIXED, {"kind": "plain"}),
        ({name: IntDistribution(1, 10, log=name == "a") for name in "abcde"}, dict.fromkeys("abcde", 10)),
        (
            {
                "f": FloatDistribution(0.0, 1.0, step=0.1),
                **{name: categorical(list(range(30))) for name in "abc"},
            },
            {"f": 0.5, "a": 0, "b": 0, "c": 0},
        ),
    ],
)
def test_neighbours_are_drawn_in_a_space_that_is_not_enumerated(space: Any, proposed: Any) -> None:
    space = stored_space(space)
    found: list[Any] = []
    for seed in range(8):
        found.append(nearby(space, proposed, kept=[proposed, *found], seed=seed))
        assert lies_within(found[-1], space)
        assert nearby(space, proposed, kept=[proposed, *found[:-1]], seed=seed) == found[-1]
    assert len({finite.key(params) for params in [proposed, *found]}) == 9
