"""The model that a command names: a study's, or a folder's, with the code that may be imported for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.errors import ModelFileError, ObjectiveFileError
from hpo.models.location import model_of_study
from hpo.models.record import ModelRecord, read_record
from hpo.ownership import replaceable_by_others
from hpo.settings import Settings
from hpo.study.definition.objective_file import check_objective_file
from storage.opening import open_database


@dataclass(frozen=True)
class ChosenModel:
    """A model, and the reference of the objective whose code may be imported for it; None: no code."""

    record: ModelRecord
    code: str | None


def choose_model(
    settings: Settings, *, study: str | None = None, model: Path | None = None, objective: str | None = None
) -> ChosenModel:
    """Return the model of a study, or that of a folder or file, for which the database is not opened.

    Code is run only where the user has chosen it: that of the study's objective, or `objective`, given with `model`.

    Raises:
        UnknownStudyError, NoResultError, ModelFileError: as `hpo.models.location` and `hpo.models.record`.
        ObjectiveFileError: other users could have written the study's code.
    """
    if model is not None:
        return ChosenModel(read_record(model), objective)
    if study is None:
        raise ModelFileError("no model is named: give --study or --model")
    with open_database(settings.storage, settings.home) as database:
        record = model_of_study(database, study, settings.results_dir)
    if not record.holds_code:
        return ChosenModel(record, None)
    deliberately = f"--model {record.path.parent} --objective {record.objective} in place of --study"
    check_objective_file(record.objective, study, deliberately=deliberately)
    reason = replaceable_by_others(record.path)
    if reason is not None:
        raise ObjectiveFileError(
            f"the model of study {study} holds code of yours and is not loaded, because other users could have changed"
            f" it ({reason}): correct the owner or the mode, or load it deliberately with {deliberately}"
        )
    return ChosenModel(record, record.objective)
