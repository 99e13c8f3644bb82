"""The study in Optuna's tables that belongs to a study of this service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from hpo.study.definition.identity import check_optuna
from storage.optuna import studies as optuna_studies

if TYPE_CHECKING:
    from storage.engine import Database
    from storage.studies import StoredStudy


def optuna_twin(database: Database, study: StoredStudy) -> optuna.Study:
    """Return Optuna's study of a stored study, under whatever name it has there.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = database.transaction(lambda c: optuna_studies.find_by_id(c, study.study_id))
    check_optuna(study.name, str(study.spec_json["direction"]), found)
    assert found is not None
    return optuna.load_study(study_name=found.name, storage=database.optuna)
