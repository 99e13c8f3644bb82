"""The folder of a study's model: that of the last finished retrain of the search's choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ModelFileError, NoResultError
from hpo.models.record import ModelRecord, read_metrics, read_record
from hpo.study.catalog import find_study
from objectives.saved_model import NAME
from storage import retrains

if TYPE_CHECKING:
    from storage.engine import Database

_IDENTITY = ("params", "summary")
"""Keys that distinguish the files of one retrain from those of another."""


def model_of_study(database: Database, name: str, results_dir: Path) -> ModelRecord:
    """Return the model of the study's last retrain.

    Raises:
        UnknownStudyError: the study does not exist.
        NoResultError: it was not retrained.
        ModelFileError: the retrain's model is not on this host.
    """
    study = find_study(database, name)
    last = database.transaction(lambda connection: retrains.latest_of_search(connection, study.study_id))
    if last is None:
        raise NoResultError(f"study {name} has no retrained model: run hpo retrain --study {name}")
    written = Path(str(last["folder"])) if last["folder"] else None
    candidates = dict.fromkeys(path for path in (written, results_dir / name) if path is not None)
    others = []
    for folder in candidates:
        metrics = read_metrics(folder)
        if metrics is None:
            continue
        if not _is_same(metrics, last["metrics"]):
            others.append(folder)
        elif not (folder / NAME).is_file():
            raise ModelFileError(
                f"the retrain of study {name} has no {NAME} in {folder}: its objective saves no Keras model that could"
                " be used here (a KerasObjective does, and run.evaluate())"
            )
        else:
            # Not the objective of a file, which others may have written.
            return replace(read_record(folder), objective=study.objective)
    if others:
        raise ModelFileError(
            f"{others[0]} holds the results of another retrain than the last one of study {name}: retrain again, or"
            " name the model's folder with --model"
        )
    host = f" on host {last['host']}" if last["host"] else ""
    raise ModelFileError(
        f"the model of study {name} is not on this host, it was written to {written or results_dir / name}{host}:"
        " copy this folder here and name it with --model"
    )


def _is_same(metrics: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    return all(metrics.get(key) == stored.get(key) for key in _IDENTITY)
