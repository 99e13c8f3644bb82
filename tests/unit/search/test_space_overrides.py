"""`--param` narrows a search space."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import InvalidParameterError, UnknownParameterError
from hpo.search.space_overrides import narrow_space, override_text
from hpo.search.starting.starting_points import known_good_parts
from objectives.spaces.choices import categorical, identity, stored
from objectives.spaces.space import lies_within, same_space
from tests.properties import given, settings, st

SPACE: dict[str, BaseDistribution] = {
    "batch_size": CategoricalDistribution([64, 128, 256]),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
    "augment": CategoricalDistribution([True, False]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6, step=0.1),
    "layers": IntDistribution(2, 10, step=2),
    "width": IntDistribution(8, 64, log=True),
}


@pytest.mark.parametrize(
    ("override", "narrowed"),
    [
        ("batch_size=64,128", CategoricalDistribution([64, 128])),
        ("batch_size=128", CategoricalDistribution([128])),
        ("batch_size = 256 , 64", CategoricalDistribution([256, 64])),
        ("optimizer=adam", CategoricalDistribution(["adam"])),
        ("augment=False", CategoricalDistribution([False])),
        ("learning_rate=1e-4..1e-2", FloatDistribution(1e-4, 1e-2, log=True)),
        ("learning_rate=0.01", FloatDistribution(0.01, 0.01, log=True)),
        ("learning_rate=0.01,0.001", CategoricalDistribution([0.01, 0.001])),
        ("dropout=0.2..0.4", FloatDistribution(0.2, 0.4, step=0.1)),
        ("layers=4..8", IntDistribution(4, 8, step=2)),
        ("layers=4", IntDistribution(4, 4, step=2)),
        ("width=8..16", IntDistribution(8, 16, log=True)),
        ("width=1e1..1.6e1", IntDistribution(10, 16, log=True)),
        ("batch_size=6.4e1", CategoricalDistribution([64])),
        ("augment=true", CategoricalDistribution([True])),
        ("augment=FALSE", CategoricalDistribution([False])),
    ],
)
def test_override_narrows_one_parameter(override: str, narrowed: BaseDistribution) -> None:
    name = override.partition("=")[0].strip()
    space = narrow_space(SPACE, [override])
    assert space == {**SPACE, name: narrowed}
    assert list(space) == list(SPACE)


def test_choice_keeps_its_type() -> None:
    (size,) = narrow_space(SPACE, ["batch_size=64"])["batch_size"].choices  # type: ignore[attr-defined]
    assert isinstance(size, int)
    (flag,) = narrow_space(SPACE, ["augment=True"])["augment"].choices  # type: ignore[attr-defined]
    assert flag is True


@pytest.mark.parametrize(
    ("choices", "text", "chosen"),
    [
        ([(3, 3), (5, 5)], "(3,3)", [[3, 3]]),
        ([(3, 3), (5, 5)], "[5, 5], (3, 3)", [[5, 5], [3, 3]]),
        ([(3,), (3, 3)], "(3,)", [[3]]),
        ([[64, 64], 64], "[64,64]", [[64, 64]]),
        ([None, True, 1, 1.0, "1"], 'null,true,1,1.0,"1"', [None, True, 1, 1.0, "1"]),
        ([None, "none", "None"], "none,None,'None'", ["none", None, "None"]),
        (["None", "true"], "None,true", ["None", "true"]),
        (["1", "2"], "2", ["2"]),
        ([0.001, 0.01], "1e-3,.01", [0.001, 0.01]),
        ([10 ** (-8 / 3), 1.0], "0.00215", [10 ** (-8 / 3)]),
        (["a,b", "c"], "c,a,b", ["c", "a,b"]),
        (["a", "b", "a,b"], '"a,b"', ["a,b"]),
        (["a", "b", "a,b"], '"a","b"', ["a", "b"]),
        ([" a", ""], '" a",""', [" a", ""]),
        (["'x'", "a=b"], "'x',a=b", ["'x'", "a=b"]),
        ([{"a": 1, "b": 2}, {"a": 2}], '{"a": 1, "b": 2}', [{"a": 1, "b": 2}]),
        ([{1: 0.1, 10: 0.01}, {1: 0.2}], "{1: 0.1, 10: 0.01}", [{"1": 0.1, "10": 0.01}]),
        ([2**70, 2**71], str(2**71), [2**71]),
    ],
    ids=str,
)
def test_each_choice_can_be_written(choices: list[Any], text: str, chosen: list[Any]) -> None:
    space = {"c": categorical([stored(choice) for choice in choices])}
    (found,) = narrow_space(space, [f"c={text}"]).values()
    assert repr(list(found.choices)) == repr(chosen)  # type: ignore[attr-defined]


def test_choices_that_can_be_read_in_two_ways_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"""write "a,b" or "a","b", with the quotes"""):
        narrow_space({"c": categorical(["a", "b", "a,b"])}, ["c=a,b"])


def test_name_may_hold_equals_signs() -> None:
    space = narrow_space({"a=b": IntDistribution(0, 9), "a": IntDistribution(0, 9)}, ["a=b=3", "a=4"])
    assert space == {"a=b": IntDistribution(3, 3), "a": IntDistribution(4, 4)}


texts = st.sampled_from(["a", "b", "a,b", "1", "None", "true", " a", '"a"', "[1]", ""]) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), max_size=5
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
nested = st.recursive(
    plain, lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=2), max_leaves=4
)


@settings(max_examples=60)
@given(
    choices=st.lists(nested, min_size=1, max_size=5, unique_by=identity),
    some=st.lists(st.integers(0, 4), min_size=1),
)
def test_narrowed_space_can_be_written_again(choices: list[Any], some: list[int]) -> None:
    original = {"c": categorical(choices)}
    places = list(dict.fromkeys(place % len(choices) for place in some))
    narrowed = {"c": categorical([choices[place] for place in places])}
    assert same_space(narrow_space(original, [override_text("c", original["c"], narrowed["c"])]), narrowed)


def test_overrides_add_up() -> None:
    space = narrow_space(SPACE, ["batch_size=64", "dropout=0.1..0.2"])
    assert space["batch_size"] == CategoricalDistribution([64])
    assert space["dropout"] == FloatDistribution(0.1, 0.2, step=0.1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size", "write NAME=VALUE"),
        ("batch_size=", "write NAME=VALUE"),
        ("batch_size=100", "'100' is not one of 64, 128, 256"),
        ("batch_size=64,", "'' is not one of"),
        ("optimizer=adamw", "did you mean adam"),
        ("learning_rate=fast", "'fast' is not a number"),
        ("learning_rate=nan", "lies outside"),
        ("learning_rate=1e-5..1e-2", "1e-5 lies outside 0.0001..0.1"),
        ("learning_rate=1e-2..1e-3", "1e-2 is larger than 1e-3"),
        ("learning_rate=..1e-2", "'' is not a number"),
        ("layers=4.5", "'4.5' is not a whole number"),
        ("layers=4..12", "12 lies outside 2..10"),
        ("optimizer=sgd,sgd", "sgd is given twice"),
        ("batch_size=64, 64", "64 is given twice"),
        ("learning_rate=0.01,1e-2", "0.01 is given twice"),
        ("layers=4,6,4", "4 is given twice"),
        ("layers=3", "3 is not one of 2, 4, … 10"),
        ("layers=4..7", "7 is not one of 2, 4, … 10"),
        ("dropout=0.05..0.3", "0.05 is not one of 0, 0.1, … 0.6"),
    ],
)
def test_value_outside_space_is_refused(override: str, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"^--param") as caught:
        narrow_space(SPACE, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["optimizer", "learning_rate", "layers", "x" * 5000])
@pytest.mark.parametrize("value", ["9" * 5000, "a" * 5000, "9" * 3000 + ".." + "1" * 3000])
def test_message_shortens_long_values(name: str, value: str) -> None:
    with pytest.raises((InvalidParameterError, UnknownParameterError)) as caught:
        narrow_space(SPACE, [f"{name}={value}"])
    assert len(str(caught.value)) < 250


def test_unknown_parameter_names_nearest_one() -> None:
    with pytest.raises(UnknownParameterError, match="did you mean learning_rate"):
        narrow_space(SPACE, ["learningrate=0.1"])


KNOWN = {"batch_size": 128, "optimizer": "adam", "augment": True, "learning_rate": 1e-3}
KNOWN |= {"dropout": 0.3, "layers": 4, "width": 16}


@pytest.mark.parametrize(
    ("override", "whole"),
    [
        ("batch_size=64,128", True),
        ("batch_size=64,256", False),
        ("optimizer=sgd", False),
        ("learning_rate=1e-4..1e-2", True),
        ("learning_rate=1e-2..1e-1", False),
        ("learning_rate=0.01,0.02", False),
        ("layers=4", True),
        ("layers=6..8", False),
    ],
)
def test_known_good_configuration_keeps_parts_inside_space(override: str, whole: bool) -> None:
    space = narrow_space(SPACE, [override])
    assert lies_within(KNOWN, space) == whole
    left_out = set() if whole else {override.partition("=")[0]}
    assert known_good_parts([KNOWN], space) == (
        {name: value for name, value in KNOWN.items() if name not in left_out},
    )


def test_known_good_configuration_outside_space_is_dropped() -> None:
    assert known_good_parts([{"batch_size": 512}, {"depth": 3}], SPACE) == ()


def test_parameter_given_twice_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"learning_rate is given twice"):
        narrow_space(SPACE, ["learning_rate=1e-3", "learning_rate=1e-2"])
