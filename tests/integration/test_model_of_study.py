"""The model that a study's predictions come from: that of its last retrain, where this host has its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import ModelFileError, NoResultError
from hpo.models.location import model_of_study
from storage import retrains
from storage.engine import Database
from tests.integration.rows import StudyRows


class Retrains:
    """Retrains of a study, with their files."""

    def __init__(self, database: Database) -> None:
        self.database, self.rows, self.count = database, StudyRows(database), 0

    def add(self, folder: Path | None, *, model: bool = True, source: str = "search") -> Mapping[str, Any]:
        """Store a finished retrain, whose files are in a folder."""
        self.count += 1
        # As numbers of PostgreSQL, 1e-05 has other digits.
        metrics = {
            "objective": "of-the-file",
            "params": {"learning_rate": 1e-05 * self.count},
            "summary": {"test_accuracy": {"mean": 0.1 + 0.2}},
            "source": source,
        }
        if folder is not None:
            folder.mkdir(exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps(metrics))
            if model:
                (folder / "model.keras").touch()
        place = {"folder": str(folder or "/nowhere/demo"), "host": "another"}

        def write(connection: Any) -> None:
            number = retrains.new_id(connection)
            retrains.begin(connection, number, self.rows.study_id, {}, [1])
            retrains.finish(connection, number, {**metrics, "detail": place})

        self.database.transaction(write)
        return metrics


def test_last_retrain_of_the_search_has_the_model(database: Database, tmp_path: Path) -> None:
    study = Retrains(database)
    with pytest.raises(NoResultError, match="no retrained model: run hpo retrain --study demo"):
        model_of_study(database, "demo", tmp_path)
    study.add(tmp_path / "trial-7", source="trial")
    with pytest.raises(NoResultError, match="no retrained model"):
        model_of_study(database, "demo", tmp_path)
    study.add(tmp_path / "elsewhere")
    found = model_of_study(database, "demo", tmp_path / "results")
    assert found.path == tmp_path / "elsewhere" / "model.keras"
    # The database names the code to run, not a file.
    assert found.objective == "digits-cnn"
    study.add(tmp_path / "demo")
    assert model_of_study(database, "demo", tmp_path).path == tmp_path / "demo" / "model.keras"


def test_model_of_another_host_or_retrain_is_not_used(database: Database, tmp_path: Path) -> None:
    study = Retrains(database)
    study.add(None)
    with pytest.raises(
        ModelFileError, match="not on this host, it was written to /nowhere/demo on host another"
    ):
        model_of_study(database, "demo", tmp_path)
    study.add(tmp_path / "demo")
    study.add(None)
    with pytest.raises(ModelFileError, match="results of another retrain than the last one of study demo"):
        model_of_study(database, "demo", tmp_path)
    study.add(tmp_path / "demo", model=False)
    (tmp_path / "demo" / "model.keras").unlink()
    with pytest.raises(ModelFileError, match=r"has no model\.keras"):
        model_of_study(database, "demo", tmp_path)
