"""A table of trials is read back as it was written, or refused."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hpo.formatting import csv_cell
from hpo.search.space import params_problem
from hpo.study.results.columns import OF_TRIALS, of_parameters
from hpo.study.results.result_rows import is_complete, read_rows, result_of
from objectives.spaces.choices import categorical, identity, same_params
from tests.properties import given, settings, st

names = st.sampled_from(
    [
        "value",
        "param_value",
        "param_param_value",
        "state",
        "param_state",
        "a",
        "=a",
        "'=a",
        "loss",
        "metric",
        "why",
        "x,y",
        "é",
    ]
) | (st.sampled_from([" a", '"q"', "params"]))
texts = st.sampled_from(
    ["a", "", "1", "1.0", "None", "null", "True", "=1", "'=1", "-1", "+a", " a", "[1]", "a,b", "1e-3", "nan"]
) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3)
plain = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 0.5, -0.0, 1e-3, 2.5e20]) | texts
)
choices = st.recursive(
    plain, lambda one: st.lists(one, max_size=2) | st.dictionaries(texts, one, max_size=2), max_leaves=3
)


@st.composite
def trials(draw: Any) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Return a space of one to four parameters and a configuration of it."""
    space: dict[str, BaseDistribution] = {}
    params: dict[str, Any] = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(["float", "int", "choice"]))
        if kind == "float":
            space[name], params[name] = FloatDistribution(0, 1), draw(st.floats(0, 1))
        elif kind == "int":
            space[name], params[name] = IntDistribution(-9, 9), draw(st.integers(-9, 9))
        else:
            several = draw(st.lists(choices, min_size=1, max_size=4, unique_by=identity))
            space[name], params[name] = categorical(several), draw(st.sampled_from(several))
    return space, params


@pytest.mark.parametrize("style", ["hpo trials", "data frame", "Optuna"])
@settings(max_examples=40)
@given(trial=trials())
def test_table_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, style: str, trial: Any
) -> None:
    space, params = trial
    own = dict.fromkeys(OF_TRIALS, "") | {"value": 0.625, "state": "complete"}
    columns = {
        "hpo trials": of_parameters(params),
        "data frame": {name: f"param_{name}" for name in params},
        "Optuna": {name: f"params_{name}" for name in params},
    }[style]
    row = own | {columns[name]: value for name, value in params.items()}
    assert len(row) == len(own) + len(params)
    path = tmp_path_factory.mktemp("r") / "trials.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[csv_cell(cell) for cell in line] for line in (row.keys(), row.values())])
    (read,) = read_rows(path, space)
    assert is_complete(read)
    try:
        found, value = result_of(read, space, "loss")
    except ValueError as exc:
        assert "JSON" in str(exc)  # noqa: PT017
        return
    assert value == 0.625
    assert params_problem(found, space) is not None or same_params(found, params, space)
