"""Studies are found, listed, controlled and deleted."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from sqlalchemy import func, select

from hpo.errors import UnknownStudyError
from hpo.study.catalog import (
    StudyBusyError,
    delete_study,
    find_study,
    list_studies,
    set_desired_state,
    study_names,
)
from hpo.study.monitoring.status import study_status
from storage.engine import Database
from storage.studies import read_desired_state
from storage.tables import attempts, epochs, studies, trials
from tests.integration.rows import StudyRows


def test_find_study_returns_stored_study(database: Database) -> None:
    rows = StudyRows(database, budget=7)
    found = find_study(database, "demo")
    assert (found.study_id, found.budget, found.desired_state) == (rows.study_id, 7, "run")
    assert (found.objective, found.metric, found.maximize) == ("digits-cnn", "val_accuracy", True)


def test_list_studies_is_newest_first_with_counts(database: Database) -> None:
    first = StudyRows(database, "first", direction="minimize", budget=3)
    second = StudyRows(database, "second", budget=4)
    StudyRows(database, "third")
    for rows in (first, second):
        rows.trial("complete", 0.25)
        rows.trial("complete", 0.5)
        rows.trial("complete", math.nan)
        rows.trial("pruned", 0.9)
        rows.trial("bug")
        rows.agent()
        rows.agent()
    rows.attempt(rows.trial(), rows.agent(ended=5))
    found = {study.name: study for study in list_studies(database)}
    assert list(found) == ["third", "second", "first"]
    assert [study.best_value for study in found.values()] == [None, 0.5, 0.25]
    assert [(s.finished, s.failed, s.running, s.agents) for s in found.values()] == [
        (0, 0, 0, 0),
        (4, 1, 1, 2),
        (4, 1, 0, 2),
    ]
    assert study_names(database) == ["first", "second", "third"]


def test_desired_state_is_stored(database: Database) -> None:
    study_id = StudyRows(database).study_id
    for state in ("pause", "stop", "run"):
        set_desired_state(database, "demo", state)
        assert database.transaction(lambda connection: read_desired_state(connection, study_id)) == state
    assert set_desired_state(database, "demo", "pause") == "run"
    assert set_desired_state(database, "demo", "pause") == "pause"
    assert database.transaction(lambda connection: read_desired_state(connection, -1)) == "stop"
    with pytest.raises(UnknownStudyError):
        set_desired_state(database, "other", "stop")


def test_delete_removes_rows_and_folders_of_one_study(database: Database, tmp_path: Path) -> None:
    rows, other = StudyRows(database), StudyRows(database, "other")
    other.trial("complete", 0.5)
    rows.study.add_trial(optuna.trial.create_trial(value=0.5))
    reservation_id = rows.trial("complete", 0.5)
    rows.epoch(reservation_id, rows.attempt(reservation_id, rows.agent(), ended=1), 1, {})
    folder = find_study(database, "demo").folder
    # demo@00000000 belongs to a study of the same name in another database.
    for name in (folder, "demo@00000000", "other"):
        (tmp_path / name / "0").mkdir(parents=True)
    assert delete_study(database, "demo", folders=[tmp_path]) == 1
    assert study_names(database) == ["other"]
    assert [study.study_name for study in optuna.get_all_study_summaries(database.optuna)] == ["other"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo@00000000", "other"]
    for table, remaining in ((studies, 1), (trials, 1), (attempts, 0), (epochs, 0)):
        count = select(func.count()).select_from(table)
        assert database.transaction(lambda connection, count=count: connection.scalar(count)) == remaining
    with pytest.raises(UnknownStudyError):
        delete_study(database, "demo")


def test_running_study_is_deleted_only_with_force(database: Database) -> None:
    rows = StudyRows(database)
    rows.attempt(rows.trial(), rows.agent())
    with pytest.raises(StudyBusyError, match=r"1 trial running.*hpo stop --study demo"):
        delete_study(database, "demo")
    assert study_status(database, "demo").desired_state == "run"
    delete_study(database, "demo", force=True)
    assert study_names(database) == []


def test_interrupted_deletion_can_be_repeated(database: Database) -> None:
    rows = StudyRows(database)
    optuna.delete_study(study_name=rows.name, storage=database.optuna)
    delete_study(database, "demo")
    assert study_names(database) == []


def test_study_named_dots_deletes_no_other_folder(database: Database, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "precious").write_text("")
    # Studies of early versions have no uid.
    StudyRows(database, "..").set(uid="")
    delete_study(database, "..", folders=[tmp_path / "checkpoints", tmp_path / "absent"])
    assert (tmp_path / "precious").exists()
    assert (tmp_path / "checkpoints").exists()
