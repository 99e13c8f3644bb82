"""`hpo enqueue` takes a configuration of the space, which is trained once."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import TimeoutError

from hpo.errors import InvalidParameterError, StudyConflictError, UnknownParameterError, UnknownStudyError
from hpo.search.optuna_study import Search
from hpo.study.changes.enqueue import enqueue
from hpo.study.monitoring.status import study_status
from hpo.study.results.trials import trial_rows
from objectives.spaces.choices import categorical
from storage.claiming.claims import NoWork
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train
from tests.searches import sampled
from tests.specs import spec

SPACE = {
    "x": FloatDistribution(0, 1),
    "n": IntDistribution(1, 9, step=2),
    "c": categorical([1, "1", True, None, [3, 3], "a,b"]),
}


def test_enqueued_configurations_are_trained_next_once(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE), budget=3)
    first = enqueue(database, "s", ["x=2.5e-1", "n=3", 'c="1"'])
    assert (first.number, first.new, first.left) == (0, True, 3)
    assert enqueue(database, "s", ["c=[3, 3]"]).number == 1
    again = enqueue(database, "s", ["n=3.0", "x=0.25", 'c="1"'])
    assert (again.number, again.new) == (0, False)
    assert (study_status(database, "s").enqueued, study_status(database, "s").waiting) == (2, 2)
    agents = [study.agent(), study.agent()]
    for number in range(3):
        train(agents[number % 2], claimed(agents[number % 2]))
    assert agents[0].claim(0, "cpu:0") is NoWork.DONE
    trials = [trial.params for trial in study.optuna.get_trials(states=[TrialState.COMPLETE])]
    assert repr(trials[0]) == repr({"x": 0.25, "n": 3, "c": "1"})
    assert trials[1]["c"] == [3, 3]
    assert (len(trials), study_status(database, "s").enqueued) == (3, 0)
    late = enqueue(database, "s", ["x=1"])
    assert (late.left, trial_rows(database, "s")[-1].why) == (0, "enqueued")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y=1", "--param y=1: unknown parameter 'y'"),
        ("x=1.5", "--param x=1.5: 1.5 lies outside 0..1"),
        ("x=nan", "nan lies outside"),
        ("x", "--param x: write NAME=VALUE"),
        ("n=2", "2 is not one of 1, 3"),
        ("n=3..5", "a trial has one value of n"),
        ("x=0.1,0.2", "a trial has one value of x"),
        ("c=True,None", "a trial has one value of c"),
        ("c=b", "'b' is not one of"),
    ],
)
def test_value_outside_the_space_is_refused_by_name(database: Database, text: str, message: str) -> None:
    study = StoredStudy(database, spec(SPACE))
    with pytest.raises((UnknownParameterError, InvalidParameterError)) as caught:
        enqueue(database, "s", ["x=0.5", text] if text[0] != "x" else [text])
    assert message in str(caught.value)
    with pytest.raises(InvalidParameterError, match="c is given twice"):
        enqueue(database, "s", ["c=None", "c=True"])
    assert study.optuna.get_trials() == []


def test_missing_study_is_refused(database: Database) -> None:
    study = StoredStudy(database)
    with pytest.raises(UnknownStudyError):
        enqueue(database, "t", ["x=1"])
    study.execute("DELETE FROM public.study_directions")
    study.execute("DELETE FROM public.studies")
    with pytest.raises(StudyConflictError):
        enqueue(database, "s", ["x=1"])


def test_open_space_takes_new_names_and_checks_known_ones(database: Database) -> None:
    study = StoredStudy(database, spec({}, open_space=True, epochs=None), budget=9)
    texts = ["n=1e1", "optimizer=sgd", "layers=[1, 2]", "flag=null"]
    done = enqueue(database, "s", texts)
    assert done.unknown == ("n", "optimizer", "layers", "flag")
    assert repr(dict(done.params)) == repr({"n": 10, "optimizer": "sgd", "layers": [1, 2], "flag": None})
    trial = study.optuna.ask()
    wanted: dict[str, Any] = {"n": trial.suggest_int("n", 1, 20), "f": trial.suggest_float("f", 0, 1)}
    assert wanted["n"] == 10
    assert enqueue(database, "s", ["f=1", "g='x'"]).unknown == ("g",)
    with pytest.raises(InvalidParameterError, match=r"30 lies outside 1\.\.20"):
        enqueue(database, "s", ["n=30"])
    with pytest.raises(InvalidParameterError, match="g is given twice"):
        enqueue(database, "s", ["g=1", "g=2"])
    with pytest.raises(InvalidParameterError, match="not a finite number"):
        enqueue(database, "s", ["g=1e999"])


def test_repeated_creation_enqueues_one_trial(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StoredStudy(database)
    storage, create = database.optuna, database.optuna.create_new_trial

    def lost(*args: Any, **kwargs: Any) -> int:
        create(*args, **kwargs)
        monkeypatch.setattr(storage, "create_new_trial", create)
        raise TimeoutError("no connection came free")

    monkeypatch.setattr(storage, "create_new_trial", lost)
    assert enqueue(database, "s", ["x=1"]).number == 0
    assert len(study.optuna.get_trials()) == 1


def test_search_takes_over_every_value(database: Database) -> None:
    study = StoredStudy(database, spec(SPACE))
    enqueue(database, "s", ["c=null", "n=1e0"])
    search = Search(study.optuna._study_id, study.spec, database.optuna)
    search.take_over(study.optuna.get_trials()[0]._trial_id)
    params = sampled(search, study.optuna.get_trials()[0]._trial_id)
    assert (params["c"], params["n"], 0 <= params["x"] <= 1) == (None, 1, True)
