"""KerasTuner's hyperparameters, without keras-tuner."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives.adapters.hyperparameters import HyperParameters, hyperparameters


class Asked(dict[str, BaseDistribution]):
    """The parameters that were asked for; each gets the value of `answers`, else its lowest."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __call__(self, name: str, distribution: BaseDistribution) -> Any:
        assert name not in self
        self[name] = distribution
        lowest = (
            distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low
        )
        return self.answers.get(name, lowest)


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("Int", {"min_value": 6, "max_value": 12}, IntDistribution(6, 12)),
        ("Int", {"min_value": 6, "max_value": 13, "step": 3}, IntDistribution(6, 12, step=3)),
        ("Int", {"min_value": 8, "max_value": 512, "sampling": "LOG"}, IntDistribution(8, 512, log=True)),
        (
            "Int",
            {"min_value": 2, "max_value": 32, "step": 2, "sampling": "log"},
            CategoricalDistribution([2, 4, 8, 16, 32]),
        ),
        (
            "Int",
            {"min_value": 2, "max_value": 9, "step": 2, "sampling": "reverse_log"},
            CategoricalDistribution([3, 7, 9]),
        ),
        ("Int", {"min_value": 2, "max_value": 9, "sampling": "reverse_log"}, IntDistribution(2, 9)),
        ("Float", {"min_value": 0, "max_value": 1}, FloatDistribution(0.0, 1.0)),
        ("Float", {"min_value": 0, "max_value": 1, "step": 0.2}, FloatDistribution(0.0, 1.0, step=0.2)),
        ("Float", {"min_value": 0.1, "max_value": 1, "step": 0.4}, FloatDistribution(0.1, 0.9, step=0.4)),
        (
            "Float",
            {"min_value": 1e-4, "max_value": 0.1, "sampling": "log"},
            FloatDistribution(1e-4, 0.1, log=True),
        ),
        (
            "Float",
            {"min_value": 0.001, "max_value": 10, "step": 10, "sampling": "log"},
            CategoricalDistribution([0.001, 0.01, 0.1, 1.0, 10.0]),
        ),
        (
            "Float",
            {"min_value": 0.5, "max_value": 0.9, "sampling": "reverse_log"},
            FloatDistribution(0.5, 0.9),
        ),
        (
            "Float",
            {"min_value": 1, "max_value": 2, "sampling": None, "default": 2},
            FloatDistribution(1.0, 2.0),
        ),
        ("Choice", {"values": ["a", "b"], "default": "b"}, CategoricalDistribution(["a", "b"])),
        ("Choice", {"values": [8, 16], "ordered": True}, CategoricalDistribution([8, 16])),
        ("Boolean", {"default": True}, CategoricalDistribution([False, True])),
    ],
)
def test_kind_of_parameter_has_its_distribution(
    kind: str, arguments: dict[str, Any], expected: BaseDistribution
) -> None:
    asked = Asked()
    value = getattr(HyperParameters(asked), kind)("x", **arguments)
    assert asked == {"x": expected}
    assert type(value) is {"Int": int, "Float": float, "Boolean": bool}.get(kind, type(value))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Int", (1.5, 3), "needs whole numbers"),
        ("Int", (3, 1), "min_value 3 above max_value 1"),
        ("Int", (1, 3, 0), "step 0"),
        ("Float", (1, 3, 1, "log"), "needs one above 1"),
        ("Float", (0, 1, None, "log"), "needs one above 0"),
        ("Float", (1, 2, None, "normal"), "use 'linear', 'log' or 'reverse_log'"),
    ],
)
def test_impossible_range_is_refused_by_name(kind: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(HyperParameters(Asked()), kind)("x", *arguments)


def test_conditional_parameters_are_asked_for_only_where_they_are_active() -> None:
    asked = Asked(model="cnn")
    hp = HyperParameters(asked)
    assert hp.Choice("model", ["mlp", "cnn"]) == "cnn"
    with hp.conditional_scope("model", ["mlp"]):
        assert hp.Int("units", 1, 9) is None
        assert hp.Fixed("depth", 3) is None
    with hp.conditional_scope("model", "cnn"):
        assert hp.Int("filters", 4, 8) == 4
        assert hp.Boolean("pooling", parent_name="filters", parent_values=[5, 6]) is None
        with hp.conditional_scope("units", [1]):
            assert hp.Float("never", 0, 1) is None
    assert hp.Int("kernel", 3, 5, parent_name="model", parent_values=["cnn"]) == 3
    assert hp.Fixed("size", 28) == 28
    assert list(asked) == ["model", "filters", "kernel"]
    assert hp.values == {"model": "cnn", "filters": 4, "kernel": 3, "size": 28}
    assert (hp.get("size"), hp["filters"], "units" in hp, "kernel" in hp) == (28, 4, False, True)
    assert (hp.is_active("filters"), hp.is_active("units")) == (True, False)
    with pytest.raises(ValueError, match="units is currently inactive"):
        hp.get("units")
    with pytest.raises(KeyError, match="nothing"):
        hp.get("nothing")
    with pytest.raises(ValueError, match="'nothing' is not defined"), hp.conditional_scope("nothing", [1]):
        pass


def test_name_scopes_are_part_of_names() -> None:
    asked = Asked()
    hp = HyperParameters(asked)
    with hp.name_scope("encoder"), hp.name_scope("first"):
        hp.Int("units", 1, 9)
        assert hp.get("units") == 1
        assert hp.Int("more", 2, 9, parent_name="units", parent_values=[1]) == 2
    hp.Int("units", 5, 9)
    assert hp.values == {"encoder/first/units": 1, "encoder/first/more": 2, "units": 5}


def test_parameter_asked_for_again_keeps_its_value() -> None:
    hp = HyperParameters(Asked())
    assert [hp.Int("x", 1, 9), hp.Int("x", 5, 9), hp.Choice("x", ["a"])] == [1, 1, 1]


def test_class_of_keras_tuner_is_a_base_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        def __init__(self) -> None:
            self.values: dict[str, Any] = {"stale": 1}

        def get_config(self) -> dict[str, Any]:
            return {"values": self.values}

    monkeypatch.setitem(sys.modules, "keras_tuner", SimpleNamespace(HyperParameters=Theirs))  # type: ignore[arg-type]
    hp = hyperparameters(Asked())
    hp.Int("x", 1, 2)
    assert isinstance(hp, Theirs)
    assert hp.get_config() == {"values": {"x": 1}}
    monkeypatch.delitem(sys.modules, "keras_tuner")
    assert type(hyperparameters(Asked())) is HyperParameters


@pytest.mark.parametrize(
    ("value", "parents", "active"),
    [((3, 3), (3, 3), True), ((3, 3), [(3, 3)], True), ((5, 5), (3, 3), False), (abs, [abs, max], True)],
)
def test_condition_on_choices_of_any_kind(value: Any, parents: Any, active: bool) -> None:
    hp = HyperParameters(Asked(a=value))
    assert hp.Choice("a", [(3, 3), (5, 5), abs]) is value
    with hp.conditional_scope("a", parents):
        assert (hp.Boolean("b") is not None) is active
