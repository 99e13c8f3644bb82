"""`hpo import` adds known results once, or changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hpo.errors import ConfigFileError
from hpo.formatting import json_text
from hpo.study.changes.known_results import Imported, import_results
from hpo.study.monitoring.status import study_status
from hpo.study.results.trials import trial_rows
from objectives.spaces.choices import categorical
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train
from tests.specs import spec

SPACE = {
    "x": FloatDistribution(0, 1),
    "n": IntDistribution(1, 9),
    "c": categorical([1, "a", True, None, [3, 3]]),
}
ROWS = [
    {"x": 0.25, "n": 3, "c": 1},
    {"x": 0.5, "n": 4, "c": True},
    {"x": 1, "n": 5, "c": None},
    {"x": 0.75, "n": 6, "c": [3, 3]},
]
FILES = {
    "rows.json": json.dumps([{"state": "complete", "value": 0.5, "params": row} for row in ROWS]),
    "rows.csv": "number,state,value,x,n,c,why\n0,complete,0.5,0.25,3,1,\n1,complete,0.5,0.5,4,True,\n"
    '2,complete,0.5,1,5,,\n3,complete,0.5,0.75,6,"[3, 3]",\n4,pruned,9,0,1,a,\n',
    "optuna.csv": "\ufeff,value,params_x,params_n,params_c,state\r\n0,0.5,0.25,3,1,COMPLETE\r\n"
    '1,0.5,0.5,4,true,COMPLETE\r\n2,0.5,1.0,5,None,COMPLETE\r\n3,0.5,0.75,6,"[3, 3]",COMPLETE\r\n',
}


@pytest.mark.parametrize("name", FILES)
def test_results_are_added_once_and_count_for_the_sampler_only(
    database: Database, tmp_path: Path, name: str
) -> None:
    study = StoredStudy(database, spec(SPACE))
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    skipped = int("pruned" in FILES[name])
    assert import_results(database, "s", path) == Imported(4, 0, skipped)
    assert import_results(database, "s", path) == Imported(0, 4, skipped)
    stored = [trial.params for trial in study.optuna.get_trials()]
    assert repr(stored) == repr([row | {"x": float(str(row["x"]))} for row in ROWS])
    assert study_status(database, "s").finished == 0
    agent = study.agent()
    train(agent, claimed(agent))
    assert [row.state for row in trial_rows(database, "s")] == ["added"] * 4 + ["complete"]


def test_listed_trials_of_one_study_are_results_for_another(database: Database, tmp_path: Path) -> None:
    study = StoredStudy(database, spec(SPACE))
    agent = study.agent()
    train(agent, claimed(agent))
    path = tmp_path / "trials.json"
    path.write_text(json_text([row.to_json() for row in trial_rows(database, "s")]), encoding="utf-8")
    assert import_results(database, "s", path) == Imported(1, 0, 0)


NAMED = {
    "value": FloatDistribution(0, 1),
    "param_value": FloatDistribution(0, 1),
    "state": categorical(["a", None]),
    "loss": IntDistribution(0, 9),
    "=a": categorical(["=1+1", "b"]),
}


@pytest.mark.parametrize(
    "text",
    [
        "number,state,value,param_param_value,param_value,param_state,loss,param_=a,why\n"
        "0,complete,0.5,0.25,0.75,,3,'=1+1,\n",
        "value,params_value,params_param_value,params_state,params_loss,params_=a,state\n"
        "0.5,0.25,0.75,None,3.0,=1+1,COMPLETE\n",
        '[{"value": 0.5, "params": {"value": 0.25, "param_value": 0.75, "state": null, "loss": 3, "=a": "=1+1"}}]',
    ],
    ids=["hpo trials", "Optuna", "JSON"],
)
def test_parameter_named_like_a_column_has_its_own(database: Database, tmp_path: Path, text: str) -> None:
    study = StoredStudy(database, spec(NAMED))
    path = tmp_path / "f"
    path.write_text(text, encoding="utf-8")
    import_results(database, "s", path)
    (trial,) = study.optuna.get_trials()
    assert trial.value == 0.5
    assert trial.params == {"value": 0.25, "param_value": 0.75, "state": None, "loss": 3, "=a": "=1+1"}


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        ({"c": categorical([1, "1"])}, "value,c\n1,1\n", "which may be 1 or '1': use JSON"),
        ({"c": categorical(["", None])}, "value,c\n1,\n", "which may be '' or None: use JSON"),
        ({"c": categorical(["=a", "'=a"])}, "value,c\n1,'=a\n", "which may be \"'=a\" or '=a': use JSON"),
        ({"loss": FloatDistribution(0, 9)}, "loss\n1\n", "it has no finite number as 'value'"),
        ({"value": FloatDistribution(0, 9)}, "value\n1\n", "it lacks parameter 'value'"),
        ({"state": categorical(["a"])}, "value,state\n1,a\n", "state is 'a', which no trial has"),
        (
            {"value": FloatDistribution(0, 9), "param_value": FloatDistribution(0, 9)},
            "value,param_value,param_param_value\n1,2,3\n",
            "parameter 'value' may be in column 'param_value' or 'param_param_value': leave one out, or use JSON",
        ),
        ({"x": FloatDistribution(0, 9)}, "value,x,value\n1,2,3\n", "column 'value' is there twice"),
        ({"x": categorical([None])}, "value,x\n1\n", "result 1 has 1 cells in 2 columns"),
    ],
)
def test_cell_that_may_mean_several_things_is_refused(
    database: Database, tmp_path: Path, space: dict[str, BaseDistribution], text: str, message: str
) -> None:
    StoredStudy(database, spec(space))
    path = tmp_path / "f"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigFileError) as caught:
        import_results(database, "s", path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no results"),
        ("[1]", "has no results"),
        ("[{", "neither JSON nor CSV"),
        ("value,x,n\n1,0.5,3\n", "result 1: it lacks parameter 'c'"),
        ("value,x,n,c\n1,0.5,3,1\n1,7,3,1\n", "result 2: parameter 'x' is 7.0, but must be 0 to 1"),
        ("value,x,n,c\n1,0.5,3.5,1\n", "result 1: parameter 'n' is '3.5'"),
        ("value,x,n,c\n1,0.5,3,b\n", "result 1: parameter 'c' is 'b'"),
        ("value,x,n,c\nnan,0.5,3,1\n", "it has no finite number as 'value' or 'loss'"),
        ('[{"value": 1, "params": {"x": 0, "n": 1, "c": 1, "z": 1}}]', "no parameter 'z'"),
    ],
)
def test_file_with_a_wrong_row_changes_nothing(
    database: Database, tmp_path: Path, text: str, message: str
) -> None:
    study = StoredStudy(database, spec(SPACE))
    path = tmp_path / "f"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigFileError) as caught:
        import_results(database, "s", path)
    assert message in str(caught.value)
    assert study.optuna.get_trials() == []
