"""`hpo copy`: a new study with the spec and the budget of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from hpo.options.study_name import check_study_name
from hpo.study.catalog import check_name_is_free, read_study
from storage import studies
from storage.optuna import studies as optuna_studies
from storage.optuna.copies import copy_history

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Summary of a copy."""

    budget: int
    history: int
    """Number of trials that the copy has as history."""


def copy_study(database: Database, study: str, name: str, *, history: bool = False) -> Copied:
    """Create the study `name`, completely or not at all; `history`: with the trials of the other.

    Raises:
        UnknownStudyError: there is no study to copy.
        StudyNameError, StudyConflictError: the name is invalid or taken.
    """
    check_study_name(name)
    made: dict[int, Copied] = {}

    def write(connection: Connection) -> Copied:
        for study_id in studies.ids_of(connection, name):
            if study_id in made:
                # Committed before; only the confirmation was lost.
                return made[study_id]
        read_study(connection, study, database)
        check_name_is_free(connection, name, database)
        original = studies.find(connection, study)
        assert original is not None
        optuna_studies.create(connection, name, str(original.spec_json["direction"]))
        new = optuna_studies.find(connection, name)
        assert new is not None
        spec_json = {**original.spec_json, "earlier_samplers": [], "estimate": None}
        studies.insert(connection, new.study_id, name, spec_json, original.budget)
        trials = 0
        if history:
            trials = copy_history(connection, original.study_id, new.study_id, f"study {study}")
        made[new.study_id] = Copied(budget=original.budget, history=trials)
        return made[new.study_id]

    return database.transaction(write)
