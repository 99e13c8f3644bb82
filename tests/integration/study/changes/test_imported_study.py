"""`hpo import --from` adds the trials of an Optuna study as history, once, and changes nothing in its storage."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from hpo.errors import HpoError, ImportSourceError, MissingDependencyError, UnknownStudyError
from hpo.study.changes.imported_study import import_study
from hpo.study.changes.known_results import Imported
from hpo.study.monitoring.status import study_status
from hpo.study.results.trials import trial_rows
from objectives.spaces.choices import categorical
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, train
from tests.specs import spec

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0, 1),
    "n": IntDistribution(1, 9),
    "c": categorical(["a", None]),
}
OTHER: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0, 2),
    "n": CategoricalDistribution([2, 4]),
    "c": CategoricalDistribution(["a", None, "z"]),
}


def fill(storage: Any, name: str = "old", direction: str = "minimize") -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=storage, direction=direction)
    study.add_trial(trial(0.25, 2, "a", value=0.5, steps={0: 0.75, 1: 0.5}))
    study.add_trial(trial(0.5, 4, None, state=TrialState.PRUNED, steps={0: math.inf}))
    study.add_trial(trial(1.5, 4, None, value=0.125))
    study.add_trial(trial(0.5, 4, "a", value=math.inf))
    study.add_trial(trial(0.5, 4, "a", state=TrialState.FAIL))
    study.ask()
    study.enqueue_trial({"x": 0.5})
    return study


def trial(
    x: float,
    n: int,
    c: str | None,
    *,
    value: float | None = None,
    state: TrialState = TrialState.COMPLETE,
    steps: dict[int, float] | None = None,
) -> optuna.trial.FrozenTrial:
    params = {"x": x, "n": n, "c": c}
    return create_trial(
        params=params,
        distributions=OTHER,
        value=value,
        state=state,
        intermediate_values=steps,
        user_attrs={"secret": "not copied"},
        system_attrs={"constraints:c": 1.0, "fixed_params": {"x": 9}},
    )


@pytest.mark.parametrize("kind", ["sqlite", "old sqlite", "journal", "postgresql"])
def test_finished_trials_become_history_once(
    database: Database, empty_storage_url: str, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "old.db"
    url = empty_storage_url if kind == "postgresql" else f"sqlite:///{path}"
    journal = kind == "journal"
    fill(JournalStorage(JournalFileBackend(str(path))) if journal else url)
    if kind == "old sqlite":
        # Tables of Optuna 3.1, whose newest revision was this one.
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    before = None if kind == "postgresql" else path.read_bytes()
    study = StoredStudy(database, spec(SPACE))
    source = url if kind in ("sqlite", "postgresql") else str(path)
    done = import_study(database, "s", source, None)
    assert (done.added, done.known, done.skipped, done.outside) == (2, 0, 4, 1)
    assert done.outside_example.startswith("trial 2: parameter 'x' is 1.5")
    assert import_study(database, "s", source, "old").added == 0
    complete, pruned = study.optuna.get_trials()
    assert (complete.state, complete.value, complete.params) == (
        TrialState.COMPLETE,
        0.5,
        {"x": 0.25, "n": 2, "c": "a"},
    )
    assert (complete.intermediate_values, pruned.intermediate_values) == ({1: 0.75, 2: 0.5}, {1: math.inf})
    assert (pruned.state, complete.distributions) == (TrialState.PRUNED, SPACE)
    assert complete.system_attrs == {"constraints:c": 1.0}
    assert complete.user_attrs.keys() == {"hpo_imported"}
    if before is not None:
        assert path.read_bytes() == before
        assert [found.name for found in tmp_path.iterdir()] == ["old.db"]
    agent = study.agent()
    train(agent, claimed(agent))
    rows = trial_rows(database, "s")
    assert [row.state for row in rows] == ["added", "pruned", "complete"]
    assert all(row.why.startswith("imported from study old in ") for row in rows[:2])
    assert study_status(database, "s").finished == 1


def test_password_of_the_source_is_neither_stored_nor_printed(
    database: Database, empty_storage_url: str
) -> None:
    fill(empty_storage_url)
    StoredStudy(database, spec(SPACE))
    assert "?" in empty_storage_url
    import_study(database, "s", f"{empty_storage_url}&sslpassword=hunter2", None)
    assert not any("hunter2" in row.why for row in trial_rows(database, "s"))
    with pytest.raises(ImportSourceError) as caught:
        import_study(database, "s", "postgresql://me:hunter2@127.0.0.1:1/x", None)
    assert "hunter2" not in str(caught.value)


def test_open_space_keeps_ranges_and_steps_of_the_source(database: Database, tmp_path: Path) -> None:
    study = StoredStudy(database, spec({}, open_space=True, epochs=None))
    fill(f"sqlite:///{tmp_path / 'a.db'}")
    for name, kind, value in (("b", CategoricalDistribution([1, 2]), 1), ("c", FloatDistribution(0, 7), 5.5)):
        other = optuna.create_study(study_name=name, storage=f"sqlite:///{tmp_path / f'{name}.db'}")
        other.add_trial(create_trial(params={"x": value}, distributions={"x": kind}, value=0.0))
    assert import_study(database, "s", str(tmp_path / "a.db"), None).added == 3
    assert import_study(database, "s", str(tmp_path / "c.db"), "c").added == 1
    with pytest.raises(ImportSourceError, match="parameter 'x' is of another kind"):
        import_study(database, "s", str(tmp_path / "b.db"), None)
    first = study.optuna.get_trials()[0]
    assert (first.intermediate_values, first.distributions) == ({0: 0.75, 1: 0.5}, OTHER)


def test_interrupted_import_continues(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StoredStudy(database, spec(SPACE))
    other = optuna.create_study(study_name="old", storage=f"sqlite:///{tmp_path / 'a.db'}")
    for _ in range(3):
        other.add_trial(trial(0.5, 4, "a", value=0.5))
    own = {"params": {"x": 0.5, "n": 4, "c": "a"}, "distributions": SPACE, "value": 0.5}
    study.optuna.add_trial(create_trial(**own))
    add = optuna.Study.add_trial

    def interrupted(self: optuna.Study, one: optuna.trial.FrozenTrial) -> None:
        add(self, one)
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "add_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_study(database, "s", str(tmp_path / "a.db"), None)
    monkeypatch.undo()
    assert import_study(database, "s", str(tmp_path / "a.db"), None) == Imported(2, 1, 0)
    assert len(study.optuna.get_trials()) == 4


def test_source_that_does_not_fit_is_refused_by_name(
    database: Database, tmp_path: Path, storage_url: str
) -> None:
    study = StoredStudy(database, spec(SPACE))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    fill(url, "up", "maximize")
    optuna.create_study(study_name="two", storage=url, directions=["minimize", "maximize"])
    narrow = optuna.create_study(study_name="narrow", storage=url)
    narrow.add_trial(create_trial(params={"y": 1}, distributions={"y": IntDistribution(1, 2)}, value=0.0))
    agent = study.agent()
    train(agent, claimed(agent))
    (tmp_path / "text").write_text("value,x\n1,2\n")
    (tmp_path / "journal").write_text('{"op_code": 0}\n')
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE t (x)").connection.close()
    refused = {
        (url, "up"): "is to maximize, but this study is to minimize loss",
        (url, "two"): "is to minimize and maximize",
        (url, "narrow"): "(trial 0: the objective has no parameter 'y'",
        (url, "ups"): "has no study 'ups'; did you mean up?: choose one of them",
        (url, None): "has no study 's'",
        (storage_url, "s"): "is this study itself",
        (str(tmp_path / "text"), None): "neither an SQLite database nor a journal",
        (str(tmp_path / "journal"), None): "cannot be read",
        (str(tmp_path / "empty.db"), None): "no such table",
        (
            "postgresql://me:zq1@127.0.0.1:1/x",
            None,
        ): "postgresql://me:***@127.0.0.1:1/x cannot be read (Conn",
        (str(tmp_path), None): "is not a file",
        (str(tmp_path / "missing"), None): "No such file",
        (f"sqlite:///{tmp_path / 'missing'}", None): "No such file",
        ("redis://host", None): "is of no known database",
        ("http:///x", None): "is of no known database",
        ("postgresql://host", None): "the storage URL names no database",
    }
    for (source, name), message in refused.items():
        with pytest.raises(ImportSourceError) as caught:
            import_study(database, "s", source, name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingDependencyError, match="mysqldb"):
        import_study(database, "s", "mysql://host/x", None)
    with pytest.raises(UnknownStudyError):
        import_study(database, "t", url, None)
    assert not (tmp_path / "missing").exists()
    assert len(study.optuna.get_trials()) == 1
    assert issubclass(ImportSourceError, HpoError)
