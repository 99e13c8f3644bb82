"""Classes, functions and members of enums as choices: kept by their names, given to `train` as the objects."""

from __future__ import annotations

import collections
import enum
import functools
import json
import math
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution

from hpo import formatting
from hpo.search.choice_text import labels
from hpo.search.space_overrides import narrow_space, override_text
from objectives import loader
from objectives.adapters.optuna_objective import wrap
from objectives.local_run import LocalRun
from objectives.spaces.choices import categorical, declared, stored, value_problem
from objectives.spaces.references import with_objects
from objectives.spaces.space import same_space, space_from_json, space_to_json, stored_space


class Colour(enum.Enum):
    RED = 1
    ROUGE = 1
    BLUE = "b"


class Named(str, enum.Enum):  # noqa: UP042 - as users write it
    ADAM = "adam"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Outer:
    class Inner(enum.IntEnum):
        ONE = 1

    @classmethod
    def make(cls) -> None: ...


def relu(x: float) -> float:
    return max(x, 0.0)


@functools.wraps(relu)
def covered(x: float) -> float:
    return x


def local() -> Any:
    def inner() -> None: ...

    return inner


HERE = __name__
NAMES = [
    (Colour.RED, f"{HERE}.Colour.RED"),
    (Colour.ROUGE, f"{HERE}.Colour.RED"),
    (Named.ADAM, f"{HERE}.Named.ADAM"),
    (Right.READ, f"{HERE}.Right.READ"),
    (Outer.Inner.ONE, f"{HERE}.Outer.Inner.ONE"),
    (Colour, f"{HERE}.Colour"),
    (relu, f"{HERE}.relu"),
    (dict, "builtins.dict"),
    (abs, "builtins.abs"),
    (math.tanh, "math.tanh"),
    (np.tanh, "numpy.tanh"),
    (np.float32, "numpy.float32"),
    (Path, "pathlib.Path"),
    # Public names of objects in private modules.
    (ThreadPoolExecutor, "concurrent.futures.ThreadPoolExecutor"),
    (json.JSONDecoder, "json.JSONDecoder"),
]


@pytest.mark.parametrize(("value", "name"), NAMES, ids=[name for _, name in NAMES])
def test_object_is_stored_by_its_public_name(value: Any, name: str) -> None:
    assert stored(value) == {"__object__": name}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda x: x, "a lambda, which has no name"),
        (local(), "a function defined inside a function, where no name leads to it"),
        (covered, f"a function to which its name {HERE}.relu does not lead"),
        (Right.READ | Right.WRITE, "a value of Right without a name of its own"),
        (functools.partial(relu, 1), "an object of type partial"),
        (types.SimpleNamespace(), "an object of type SimpleNamespace"),
        ("abc".upper, "an object of type builtin_function_or_method"),
        (list[int], "a function to which its name builtins.list does not lead"),
        (sys, "an object of type module"),
        (collections.OrderedDict(), "an object of type OrderedDict"),
    ],
)
def test_object_without_a_name_that_leads_to_it_is_refused(value: Any, reason: str) -> None:
    assert value_problem(value) == reason


def test_train_gets_the_objects_themselves() -> None:
    space = {"c": categorical([relu, Colour.BLUE, (dict, 3), {"k": Named.ADAM}, "relu"])}
    kept = space_from_json(json.loads(json.dumps(space_to_json(stored_space(space)))))
    assert same_space(kept, stored_space(space))
    arrived = [declared({"c": choice}, space)["c"] for choice in kept["c"].choices]  # type: ignore[attr-defined]
    assert arrived == list(space["c"].choices)
    assert arrived[0] is relu
    assert arrived[3]["k"] is Named.ADAM


def test_objects_are_shown_by_short_names_and_read_by_any() -> None:
    space = stored_space({"c": categorical([relu, Colour.RED, [dict, 3], "tanh"])})
    assert labels(space["c"]) == ["relu", "RED", "[dict, 3]", "tanh"]  # type: ignore[arg-type]
    assert formatting.csv_cell(stored(relu)) == "relu"
    for text in ("relu", f"{HERE}.relu", json.dumps(stored(relu))):
        assert narrow_space(space, [f"c={text}"]) == {"c": CategoricalDistribution([stored(relu)])}
    narrowed = narrow_space(space, ["c=relu,Colour.RED,[dict, 3]"])
    assert same_space(narrow_space(space, [override_text("c", space["c"], narrowed["c"])]), narrowed)


def test_objects_with_the_same_short_name_are_distinguished() -> None:
    space = stored_space({"c": categorical([math.tanh, np.tanh])})
    assert labels(space["c"]) == ["math.tanh", "numpy.tanh"]  # type: ignore[arg-type]
    assert narrow_space(space, ["c=numpy.tanh"]) == {"c": CategoricalDistribution([stored(np.tanh)])}


# The second one cannot be imported under its own name.
@pytest.mark.parametrize("stem", ["referenced_model", "random"])
def test_object_of_a_file_has_the_same_name_wherever_the_file_is(tmp_path: Path, stem: str) -> None:
    code = (
        "from optuna.distributions import CategoricalDistribution\nfrom hpo import Objective\n"
        "def swish(x): ...\nclass Mine(Objective):\n    space = {'c': CategoricalDistribution([swish, abs])}\n"
        "    def train(self, params, run): ...\n"
    )
    spaces = []
    for folder in ("one", "other"):
        path = tmp_path / folder / f"{stem}.py"
        path.parent.mkdir()
        path.write_text(code)
        spaces.append(loader.describe(f"{path}:Mine").space)
    assert same_space(*spaces)
    assert spaces[0]["c"].choices[0] == {"__object__": f"{stem}.swish"}  # type: ignore[attr-defined]


def test_optuna_objective_gets_the_objects_that_it_suggests() -> None:
    found = []

    def objective(trial: Any) -> float:
        found.append(
            (trial.suggest_categorical("act", [relu]), trial.suggest_categorical("c", [Colour.BLUE]))
        )
        assert trial.params == {"act": relu, "c": Colour.BLUE}
        return 1.0

    wrap(objective, "objective")().train({}, LocalRun(total_epochs=1))
    wrap(objective, "objective")().train(
        {"act": stored(relu), "c": stored(Colour.BLUE)}, LocalRun(total_epochs=1, final=True)
    )
    assert found == [(relu, Colour.BLUE)] * 2


@pytest.mark.parametrize("value", [value for value, _ in NAMES])
def test_name_is_given_back_as_the_object_if_its_module_is_imported(value: Any) -> None:
    assert with_objects({"a": [stored(value)], "b": 3}) == {"a": [value], "b": 3}
    assert with_objects({"__object__": "not_imported.activations.relu"}) == "relu"
