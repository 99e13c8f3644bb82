"""Spaces with parameters that are active only for some values of others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from objectives import validation
from objectives.base import Objective
from objectives.spaces.clauses import Clause, ConditionError
from objectives.spaces.conditions import When, at_least, at_most
from objectives.spaces.space import (
    Space,
    activity,
    conditions_text,
    is_active,
    lies_within,
    missing,
    parents_first,
    same_space,
    space_from_json,
    space_to_json,
    stored_space,
)

DECLARED = {
    # Before its parent.
    "nesterov": When("momentum", at_least(0.1), CategoricalDistribution([True, False])),
    "optimizer": CategoricalDistribution(["sgd", "adam", None]),
    "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.99)),
    "beta": When("optimizer", ["adam", None], FloatDistribution(0.8, 0.999)),
    "layers": IntDistribution(1, 3),
    "units_2": When("layers", at_least(2), IntDistribution(16, 64)),
    "units_3": When("layers", 3, When("optimizer", {"sgd", "adam"}, IntDistribution(16, 64))),
}
SPACE = stored_space(DECLARED)
X = FloatDistribution(0.0, 1.0)
OPTIMIZER = CategoricalDistribution(["sgd", "adam"])


def objective(declared: dict[str, Any], first: list[dict[str, Any]] | None = None) -> type[Objective]:
    def train(self: Objective, params: Any, run: Any) -> None:
        """Train nothing."""

    return type("Some", (Objective,), {"space": declared, "first": first or [], "train": train})


@pytest.mark.parametrize(
    ("params", "active"),
    [
        ({"optimizer": "sgd", "momentum": 0.5, "layers": 3}, {"nesterov", "momentum", "units_2", "units_3"}),
        ({"optimizer": "sgd", "momentum": 0.05, "layers": 1}, {"momentum"}),
        ({"optimizer": "adam", "layers": 2}, {"beta", "units_2"}),
        ({"optimizer": None, "layers": 3.0}, {"beta", "units_2"}),
        # The value of an inactive parent has no meaning.
        ({"optimizer": "adam", "momentum": 0.5, "layers": 1}, {"beta"}),
    ],
)
def test_parameter_is_active_where_all_its_conditions_hold(params: dict[str, Any], active: set[str]) -> None:
    found = {name for name in SPACE if is_active(SPACE, name, params)}
    assert found == active | {"optimizer", "layers"}


def test_activity_is_unknown_where_a_missing_parent_decides() -> None:
    assert activity(SPACE, "momentum", {}) is None
    assert activity(SPACE, "nesterov", {"optimizer": "adam"}) is False
    fixed = Space({**SPACE, "optimizer": CategoricalDistribution(["sgd"])}, SPACE.conditions)
    assert activity(fixed, "momentum", {}) is True
    assert activity(fixed, "beta", {}) is False
    assert activity(fixed, "nesterov", {}) is None


def test_configurations_hold_all_active_parameters_and_no_other() -> None:
    params = {"optimizer": "adam", "beta": 0.9, "layers": 1}
    assert lies_within(params, SPACE)
    assert missing(SPACE, {"optimizer": "adam", "layers": 2}) == ["beta", "units_2"]
    assert not lies_within(params | {"momentum": 0.5}, SPACE)
    assert not lies_within(params | {"layers": 2}, SPACE)


def test_parents_come_first() -> None:
    order = parents_first(SPACE)
    assert sorted(order) == sorted(SPACE)
    assert all(
        order.index(clause.parent) < order.index(name)
        for name, clauses in SPACE.conditions.items()
        for clause in clauses
    )
    # The sampler's random numbers of other studies stay the same.
    flat = dict.fromkeys("zax", X)
    assert parents_first(flat) == list(flat)


@pytest.mark.parametrize("parent", ["x", "y"])
def test_stored_conditions_that_name_no_parameter_or_a_circle_are_refused(parent: str) -> None:
    stored = space_to_json({"x": X})
    stored["x"]["when"] = [{"parent": parent, "low": 0}]
    with pytest.raises(ConditionError, match="'x' depends on"):
        space_from_json(stored)


def test_many_ways_to_a_parent_are_cheap() -> None:
    layers = [f"{side}{level}" for level in range(40) for side in "ab"]
    clauses = {
        name: [Clause(f"{side}{int(name[1:]) - 1}", low=0) for side in "ab"]
        for name in layers
        if name[1:] != "0"
    }
    assert is_active(Space(dict.fromkeys(layers, X), clauses), "b39", dict.fromkeys(layers, 0.5))


def test_conditions_survive_json() -> None:
    found = space_from_json(json.loads(json.dumps(space_to_json(SPACE))))
    assert same_space(found, SPACE)
    assert found.conditions == SPACE.conditions
    assert conditions_text(found, "units_3") == "layers is 3 and optimizer is sgd or adam"
    assert conditions_text(found, "nesterov") == "momentum is at least 0.1"
    assert not same_space(SPACE, Space(SPACE))


def test_order_of_values_does_not_matter() -> None:
    one, other = (
        stored_space({"optimizer": OPTIMIZER, "x": When("optimizer", values, X)})
        for values in (["adam", "sgd"], ("sgd", "adam"))
    )
    assert same_space(one, other)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("rmsprop", "'rmsprop', which optimizer never is: use its values"),
        (["sgd", "rmsprop"], "'rmsprop', which optimizer never is"),
        ([], r"\[\], which optimizer never is"),
        (at_least(1), "is never active"),
        (lambda _: True, r"use at_least\(…\) or at_most\(…\)"),
        (at_least("a"), "by the bound 'a': give a number"),  # type: ignore[arg-type]
        (at_most(float("nan")), "by the bound nan: give a number"),
    ],
)
def test_condition_that_never_holds_is_refused(values: Any, reason: str) -> None:
    wrong = validation.problem(objective({"optimizer": OPTIMIZER, "momentum": When("optimizer", values, X)}))
    assert wrong is not None
    assert wrong.startswith("space['momentum']")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(wrong)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"x": When("y", 1, X)}, "space['x'] depends on 'y', which is no other parameter of the space"),
        ({"x": When(["y"], 1, X)}, "space['x'] depends on ['y'], which is no other parameter of the space"),
        ({"x": When("x", 1, X)}, "space['x'] depends on 'x', which is no other parameter of the space"),
        (
            {"x": When("y", 1, X), "y": When("x", 1, X), "z": X},
            "space['x'] depends on itself (x on y on x): remove a condition",
        ),
        (
            {"o": OPTIMIZER, "x": When("o", "sgd", When("o", "adam", X))},
            "space['x'] is never active, because its conditions cannot hold together",
        ),
        (
            {"n": IntDistribution(1, 9, step=4), "x": When("n", at_least(2), When("n", at_most(4), X))},
            "space['x'] is never active, because its conditions cannot hold together",
        ),
        (
            {"o": OPTIMIZER, "x": When("o", "sgd", X), "z": When("o", "adam", When("x", at_least(0), X))},
            "space['z'] is never active",
        ),
        (
            {"k": CategoricalDistribution([[3], 3]), "x": When("k", [3], X)},
            "space['x'] depends on k by [3], which is a choice and a list of choices: write [[3]] for the choice",
        ),
        ({"x": When("y", 1, 0.5)}, "space['x'] must be an Optuna distribution, not 0.5"),  # type: ignore[dict-item,arg-type]
    ],
)
def test_space_with_impossible_conditions_is_refused(declared: dict[str, Any], reason: str) -> None:
    assert (validation.problem(objective(declared)) or "").startswith(reason)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, None),
        ({"optimizer": "adam"}, None),
        ({"optimizer": "sgd"}, "first[0] has no value for momentum"),
        (
            {"optimizer": "adam", "momentum": 0.9},
            "first[0] has a value for momentum, which is active only if optimizer is sgd: leave it out",
        ),
    ],
)
def test_first_configurations_are_checked_by_conditions(first: dict[str, Any], reason: str | None) -> None:
    declared = {"optimizer": OPTIMIZER, "momentum": When("optimizer", "sgd", X)}
    assert validation.problem(objective(declared, [first])) == reason


@pytest.mark.parametrize("values", [(3, 3), [(3, 3)], ((3, 3), (5, 5))])
def test_choice_that_is_a_tuple_may_be_a_value_or_one_of_several(values: Any) -> None:
    space = stored_space({"k": CategoricalDistribution([(3, 3), (5, 5)]), "x": When("k", values, X)})
    assert is_active(space, "x", {"k": [3, 3]})
