"""`hpo rename` renames a study everywhere, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import insert

from hpo.errors import (
    FileNotWritableError,
    RetrainRunningError,
    StudyConflictError,
    UnknownStudyError,
    UsageError,
)
from hpo.files.lock import exclusive_lock
from hpo.study.catalog import StudyBusyError, delete_study, find_study, study_names
from hpo.study.changes.rename import rename_study
from hpo.study.folders import move_former
from hpo.study.history import read_history
from storage import studies
from storage.engine import Database
from storage.tables import retrains
from tests.integration.stores import StoredStudy, claimed, train


def folders_of(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.glob("*/*"))


@pytest.fixture
def parents(tmp_path: Path) -> dict[str, Any]:
    made = [tmp_path / name for name in ("checkpoints", "logs", "results")]
    for folder in made:
        folder.mkdir()
    return {"folders": made[:2], "results": made[2]}


def test_study_is_renamed_in_tables_and_folders(
    database: Database, tmp_path: Path, parents: dict[str, Any]
) -> None:
    study = StoredStudy(database, budget=2)
    agent = study.agent()
    train(agent, claimed(agent))
    agent.leave()
    config = {"study": "s", "trial": 0, "a": 1}
    for named in (config, {**config, "study": "other"}):
        row = insert(retrains).values(study_id=study.optuna._study_id, config=named, seeds=[1])
        database.transaction(lambda c, row=row: c.execute(row))
    uid = find_study(database, "s").uid
    for name in (f"checkpoints/s@{uid}", "results/s", "results/other"):
        (tmp_path / name).mkdir()
    (tmp_path / f"checkpoints/s@{uid}/trial-1").touch()
    assert rename_study(database, "s", "t", **parents) == [
        tmp_path / f"checkpoints/t@{uid}",
        tmp_path / "results/t",
    ]
    assert folders_of(tmp_path) == [f"checkpoints/t@{uid}", "results/other", "results/t"]
    assert (tmp_path / f"checkpoints/t@{uid}/trial-1").exists()
    assert study_names(database) == optuna.get_all_study_names(database.optuna) == ["t"]
    history = read_history(database, "t")
    assert [row.config for row in history.retrains] == [
        {**config, "study": "t"},
        {**config, "study": "other"},
    ]
    assert list(history.retrains[0].config) == ["study", "trial", "a"]
    with pytest.raises(UnknownStudyError):
        rename_study(database, "s", "u", **parents)


def test_host_that_was_off_finds_its_folders_later(database: Database, tmp_path: Path) -> None:
    StoredStudy(database)
    uid = find_study(database, "s").uid
    for before, after in (("s", "t"), ("t", "u"), ("u", "s"), ("s", "v")):
        rename_study(database, before, after)
    study = find_study(database, "v")
    for name in (f"t@{uid}", f"s@{uid}", "s@00000000"):
        (tmp_path / name).mkdir()
    move_former(database, study, [tmp_path, tmp_path / "missing"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s@00000000", f"t@{uid}", f"v@{uid}"]
    move_former(database, study, [tmp_path])
    delete_study(database, "v", folders=[tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["s@00000000"]


def test_study_at_work_is_not_renamed(database: Database, tmp_path: Path, parents: dict[str, Any]) -> None:
    study = StoredStudy(database, budget=9)
    agent = study.agent()
    with pytest.raises(StudyBusyError, match="'s' has 1 agent running: run hpo stop --study s first"):
        rename_study(database, "s", "t", **parents)
    agent.leave()
    folder = tmp_path / "checkpoints" / find_study(database, "s").folder
    with exclusive_lock(folder / "retrain-1", "s"), pytest.raises(RetrainRunningError):
        rename_study(database, "s", "t", **parents)
    assert study_names(database) == ["s"]
    rename_study(database, "s", "t", **parents)
    # A launch that read the study before joins under its former name.
    with pytest.raises(StudyConflictError, match="renamed meanwhile: continue it with hpo launch --study t"):
        study.agent()
    assert study.scalar("SELECT count(*) FROM hpo.agents WHERE ended_at IS NULL") == 0


def test_folder_that_cannot_be_renamed_leaves_everything(
    database: Database, tmp_path: Path, parents: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    StoredStudy(database)
    folder = find_study(database, "s").folder
    for name in (f"checkpoints/{folder}", f"logs/{folder}", "results/s", "results/taken"):
        (tmp_path / name).mkdir()
    before = folders_of(tmp_path)
    with pytest.raises(FileNotWritableError, match="results/taken exists already"):
        rename_study(database, "s", "taken", **parents)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "s":
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(FileNotWritableError, match="Permission denied"):
        rename_study(database, "s", "t", **parents)
    assert folders_of(tmp_path) == before
    assert study_names(database) == optuna.get_all_study_names(database.optuna) == ["s"]
    study_id = find_study(database, "s").study_id
    assert database.transaction(lambda c: studies.former_names(c, study_id)) == []


def test_name_that_is_taken_or_invalid_is_refused(database: Database) -> None:
    study = StoredStudy(database)
    optuna.create_study(study_name="plain", storage=database.optuna)
    for name, kind in (("plain", StudyConflictError), ("s", UsageError), ("a/b", UsageError)):
        with pytest.raises(kind):
            rename_study(database, "s", name)
    # Renamed with plain Optuna before: the service's own name follows.
    study.execute("UPDATE public.studies SET study_name = 'other' WHERE study_name = 's'")
    rename_study(database, "s", "other")
    assert study_names(database) == ["other"]
