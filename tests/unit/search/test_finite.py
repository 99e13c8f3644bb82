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
    assert (found and len(found)) == number
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
