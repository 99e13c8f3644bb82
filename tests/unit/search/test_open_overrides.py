"""`--param` of an open space: applied when the objective asks for the parameter."""

from __future__ import annotations

import json

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo.errors import InvalidParameterError
from hpo.search.open_overrides import checked, meaning, narrowed, without_parameter
from hpo.search.spec import StudySpec
from tests.specs import spec

LR = FloatDistribution(1e-4, 1e-1, log=True)
UNITS = IntDistribution(32, 512, step=32)
KIND = CategoricalDistribution(["a,b", None, True, [3, 3], 1e-3])


@pytest.mark.parametrize(
    ("name", "distribution", "override", "expected"),
    [
        ("lr", LR, "lr=1e-3", FloatDistribution(1e-3, 1e-3, log=True)),
        ("lr", LR, "lr=0.001..1e-2", FloatDistribution(1e-3, 1e-2, log=True)),
        ("lr", LR, "lr=1e-3,.01", CategoricalDistribution([1e-3, 1e-2])),
        ("units", UNITS, "units=6.4e1..128", IntDistribution(64, 128, step=32)),
        (
            "units",
            CategoricalDistribution([16, 64, 256]),
            "units=32..256",
            CategoricalDistribution([64, 256]),
        ),
        ("kind", KIND, "kind='a,b',null,true", CategoricalDistribution(["a,b", None, True])),
        ("kind", KIND, "kind=(3, 3),0.001", CategoricalDistribution([[3, 3], 1e-3])),
        ("layer/units=1", UNITS, "layer/units=1=64", IntDistribution(64, 64, step=32)),
        ("lr", LR, "other=1", LR),
    ],
)
def test_override_narrows_the_parameter_of_its_name(
    name: str, distribution: BaseDistribution, override: str, expected: BaseDistribution
) -> None:
    assert narrowed(name, distribution, checked(["x=1", override])) == expected


@pytest.mark.parametrize("overrides", [["lr"], ["=1"], ["lr="], ["lr=1", "lr=2"]])
def test_override_without_a_meaning_is_refused_before_the_objective_runs(overrides: list[str]) -> None:
    with pytest.raises(InvalidParameterError, match=r"^--param "):
        checked(overrides)


def test_override_without_a_parameter_is_named() -> None:
    assert without_parameter(["lr=1", "unit=3"], ["lr", "units"]) == [
        "--param unit=3 has no effect so far, because the objective has not asked for 'unit', but for lr, units;"
        " did you mean units?"
    ]


def test_override_outside_the_parameter_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"^--param lr=1e-3\.\.1e-2: 1e-3 lies outside 0.1\.\.1"):
        narrowed("lr", FloatDistribution(0.1, 1.0), ["lr=1e-3..1e-2"])


def test_overrides_are_kept_with_the_study() -> None:
    written = spec({}, open_space=True, epochs=None, narrowing=("lr=1e-3..1e-2", "kind=null"))
    assert StudySpec.from_json(json.loads(json.dumps(written.to_json()))) == written


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("lr=1e-3", "lr=0.001", True),
        ("lr=1e-4..1e-2", "lr = 0.0001 .. 0.01", True),
        ("lr=0.1,0.01", "lr=1e-1, 1e-2", True),
        ("lr=0.1,0.01", "lr=0.1..0.01", False),
        ("k=[3, 3]", "k=(3,3)", True),
        ("k=[3, 3],[5, 5]", "k=[3, 3, 5, 5]", False),
        ("k=3", 'k="3"', False),
        ("k=true", "k=True", True),
        ("k=true", "k=1", False),
        ("k=relu", "k='relu'", True),
        ("k=nan", "k=NaN", True),
        ("a=b=1", "a=b=1.0", True),
    ],
)
def test_spelling_of_an_override_does_not_change_its_meaning(one: str, other: str, same: bool) -> None:
    assert (meaning(["a=b"], one) == meaning(["a=b"], other)) == same
