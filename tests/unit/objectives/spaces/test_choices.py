"""Choices arrive as their space declares them, or are refused with the parameter's name."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.search.space import from_unit
from hpo.search.spec import space_from_json, space_to_json
from objectives.base import Objective
from objectives.spaces.choices import categorical, contains, declared, find, same_params
from objectives.spaces.space import same_space, stored_space
from objectives.validation import problem


class Whole(int):
    """A class of the user's own that JSON would take for a number."""


def made(space: Any, first: Any = ()) -> type[Objective]:
    return type("Made", (Objective,), {"space": {"c": space}, "first": first, "train": lambda *_: None})


def one_of(*choices: Any) -> CategoricalDistribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(choices)


@pytest.mark.parametrize(
    "choices",
    [
        (1, "a", 0.5, None, True),
        (1, True, 1.0, 0.0, -0.0),
        ("1", 1),
        tuple(2 ** np.arange(4, 8)),
        (np.float32(0.1), np.float32(1)),
        (np.str_("a"), np.bool_(True)),
        ((3, 3), (5, (5, 1)), "same"),
        ([64, 64], [True], [1]),
        ({"k": (3, 3)}, {"k": (5, 5), "l": None}),
        ({1: 0.1, 10: 0.01}, {1: 0.2}),
        (2**70, 2**71),
        ("ü€\n", "", "\x1b[0m"),
    ],
    ids=str,
)
def test_stored_choice_is_handed_over_as_declared(choices: tuple[Any, ...]) -> None:
    objective = made(one_of(*choices), [{"c": choices[-1]}])
    assert problem(objective) is None
    description = objective.describe("o")
    space = space_from_json(json.loads(json.dumps(space_to_json(description.space))))
    stored = json.loads(json.dumps(list(space["c"].choices)))  # type: ignore[attr-defined]
    arrived = [declared({"c": choice}, objective.space)["c"] for choice in stored]
    assert repr(arrived) == repr(list(choices))
    assert repr(declared(description.first[0], objective.space)["c"]) == repr(choices[-1])
    # Optuna's index, which it stores, leads to the same choice.
    assert [space["c"].to_internal_repr(choice) for choice in stored] == list(range(len(choices)))


def own_list() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (one_of(1.0, float("inf")), "not a finite number"),
        (one_of(1.0, float("nan")), "not a finite number"),
        (one_of(np.float32("nan")), "not a finite number"),
        (one_of((1, [float("-inf")])), "not a finite number"),
        (one_of(lambda x: x), "a lambda, which has no name"),
        (one_of(print, (lambda: 1,)), "a lambda, which has no name"),
        (one_of(Whole(1)), "type Whole"),
        (one_of({1, 2}), "type set"),
        (one_of(b"a"), "type bytes"),
        (one_of(np.array([1, 2])), "type ndarray"),
        (one_of(np.datetime64("2020")), "type date"),
        (one_of(1j), "type complex"),
        (one_of({1.5: 1}), "a key of type float"),
        (one_of({1: 1, "1": 2}), "written the same"),
        (one_of(own_list()), "nested too deeply"),
        (one_of(10**5000), "4000 digits"),
        (one_of("a\0"), "cannot be stored"),
        (one_of("\ud800"), "cannot be stored"),
        (one_of([1], (1,)), "stored the same"),
        (one_of({1: 1}, {"1": 1}), "stored the same"),
        (FloatDistribution(0.0, float("inf")), "finite ends"),
        (FloatDistribution(float("nan"), 1.0), "finite ends"),
        (FloatDistribution(-1.7e308, 1.7e308), "finite ends"),
        (IntDistribution(0, 2**60), "2**53"),
        (type("Own", (FloatDistribution,), {})(0, 1), "class Own"),
    ],
)
def test_space_that_cannot_be_stored_is_refused_by_name(space: BaseDistribution, reason: str) -> None:
    message = problem(made(space))
    assert message is not None
    assert message.startswith("space['c']")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\ud800", "x" * 513, 1])
def test_name_that_cannot_be_stored_is_refused(name: Any) -> None:
    objective = type("Made", (Objective,), {"space": {name: IntDistribution(0, 1)}, "train": lambda *_: None})
    assert "the name of a parameter" in str(problem(objective))


@pytest.mark.parametrize(
    ("space", "value", "stored"),
    [
        (one_of(32, 64), np.int64(64), 64),
        (FloatDistribution(0, 1), np.float32(0.5), 0.5),
        (FloatDistribution(0, 1), 1, 1.0),
        (IntDistribution(1, 99), np.int64(64), 64),
        (IntDistribution(np.int64(1), np.int64(9)), 9, 9),
        (FloatDistribution(np.float32(0.25), np.float32(0.5), log=np.bool_(True)), 0.5, 0.5),
        (one_of((3, 3), (5, 5)), (5, 5), [5, 5]),
    ],
)
def test_first_configuration_is_stored_as_plain_values(space: Any, value: Any, stored: Any) -> None:
    objective = made(space, [{"c": value}])
    assert problem(objective) is None
    description = objective.describe("o")
    assert repr(description.first[0]["c"]) == repr(stored)
    json.dumps(space_to_json(description.space), allow_nan=False)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (one_of(1, 2), True),
        (one_of("a"), None),
        (FloatDistribution(0, 1), "0.5"),
        (FloatDistribution(0, 1), True),
        (FloatDistribution(0, 1), float("nan")),
        (FloatDistribution(0, 1, step=0.25), 0.3),
        (IntDistribution(0, 9), 2.5),
        (IntDistribution(0, 9), 2.0),
        (IntDistribution(0, 9, step=3), 4),
    ],
)
def test_first_configuration_outside_the_space_is_refused(space: Any, value: Any) -> None:
    assert str(problem(made(space, [{"c": value}]))).startswith("first[0]['c'] =")


def test_number_of_a_file_is_a_choice_whatever_its_type() -> None:
    assert declared({"c": 1}, {"c": one_of(0.5, 1.0)})["c"] == 1.0
    assert not contains(one_of(0.5, 1.0), True)


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(0.1, 0.7, step=0.2),
        IntDistribution(1, 10, step=3),
        FloatDistribution(1e-300, 1e300, log=True),
    ],
)
def test_every_position_of_a_range_is_one_of_its_values(distribution: Any) -> None:
    assert all(
        contains(distribution, from_unit(place, distribution)) for place in np.linspace(0, 1, 41).tolist()
    )


@pytest.mark.parametrize(
    ("choices", "value", "found"),
    [
        ((1, "a"), True, None),
        ((True, "a"), 1, None),
        ((0.5, 1.0), 1, 1.0),
        ((1, 1.0), 1.0, 1.0),
        ((0.0, -0.0), 0, None),
        (((1, 2.0), "a"), [1.0, 2], [1, 2.0]),
        (((1, 2), "a"), [True, 2], None),
        (({"k": 1.0}, "a"), {"k": 1}, {"k": 1.0}),
        (({"k": 1.0}, "a"), {"k": True}, None),
        ((1e300, "a"), 10**300, None),
        (("1", None), 1, None),
    ],
    ids=str,
)
def test_value_of_a_file_is_a_choice_if_it_is_equal_as_a_number(
    choices: tuple[Any, ...], value: Any, found: Any
) -> None:
    space = stored_space({"c": one_of(*choices)})
    assert repr(find(space["c"], value)) == repr(None if found is None else (found,))


def test_enqueued_number_is_not_taken_for_a_boolean() -> None:
    assert categorical([True, 1.0, "a"]).to_internal_repr(1) == 1


SAME = [
    (one_of(1, 2), 1, 1.0, True),
    (one_of(1, True, 1.0), 1, 1.0, False),
    (one_of(1, True), 1, True, False),
    (one_of(False, 0), False, 0, False),
    (one_of((3, 3), 1), (3, 3), [3, 3], True),
    (one_of([1], [True]), [1], [True], False),
    (one_of("1", 1), "1", 1, False),
    (one_of(1, 2), np.int64(1), 1, True),
    (one_of({1: 2}, 3), {1: 2}, {"1": 2}, True),
    (FloatDistribution(0, 1), 1, 1.0, True),
    (FloatDistribution(0, 1), True, 1.0, False),
    (FloatDistribution(0, 1), float("nan"), float("nan"), False),
    (IntDistribution(0, 1), 1, True, False),
]


@pytest.mark.parametrize(("distribution", "one", "other", "same"), SAME, ids=str)
def test_configurations_are_the_same_by_stored_values(
    distribution: BaseDistribution, one: Any, other: Any, same: bool
) -> None:
    assert same_params({"c": one}, {"c": other}, {"c": distribution}) is same
    assert not same_params({"c": one}, {"c": one, "d": 1}, {"c": distribution})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (one_of(1, 2), one_of(True, 2), False),
        (one_of(1, 2), one_of(1.0, 2), False),
        (one_of(0.1), one_of(0.1 + 1e-12), False),
        (one_of((3, 3)), one_of([3, 3]), True),
        (FloatDistribution(0, 1), FloatDistribution(0.0, np.float64(1)), True),
        (FloatDistribution(0, 1), IntDistribution(0, 1), False),
        (IntDistribution(0, 4, step=2), IntDistribution(0, 4), False),
    ],
    ids=str,
)
def test_spaces_are_the_same_by_stored_values(
    one: BaseDistribution, other: BaseDistribution, same: bool
) -> None:
    assert same_space({"c": one, "d": one}, {"d": one, "c": other}) is same
    assert not same_space({"c": one}, {"c": one, "d": one})
