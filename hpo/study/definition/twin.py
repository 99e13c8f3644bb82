"""The study in Optuna's tables that belongs to a study of this service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo.errors import StudyConflictError
from storage.optuna import studies as optuna_studies
from storage.optuna.studies import OptunaStudy

if TYPE_CHECKING:
    import optuna

    from storage.engine import Database
    from storage.studies import StoredStudy


def optuna_twin(database: Database, study: StoredStudy) -> optuna.Study:
    """Return Optuna's study of a stored study, under whatever name it has there.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = database.transaction(lambda c: optuna_studies.find_by_id(c, study.study_id))
    check_optuna(study.name, str(study.spec_json["direction"]), found)
    assert found is not None
    return optuna.load_study(study_name=found.name, storage=database.optuna)


def check_optuna(study: str, direction: str, found: OptunaStudy | None) -> None:
    """Check that a study is in Optuna's tables with its direction.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """
    if found is None:
        raise StudyConflictError(
            f"study {study!r} was deleted with plain Optuna, and its trials with it: remove the rest with hpo delete"
            f" --study {study}, or choose another name with --study"
        )
    if found.directions != (direction,):
        raise StudyConflictError(
            f"study {found.name!r} {_optimizes(found.directions)} in Optuna's tables, but its objective is to"
            f" {direction} one metric: choose another name with --study"
        )


def check_twin(found: OptunaStudy, direction: str, owner: str | None) -> None:
    """Check that a study which plain Optuna created can become one of this service.

    `owner` is the name of the study that it belongs to already.

    Raises:
        StudyConflictError: it cannot.
    """
    if owner is not None:
        raise StudyConflictError(
            f"study {found.name!r} is study {owner!r}, renamed with plain Optuna: use --study {owner}, or choose"
            " another name"
        )
    if found.trials:
        raise StudyConflictError(
            f"study {found.name!r} was created with plain Optuna and has trials: choose another name with --study, and"
            " bring known results in with hpo import"
        )
    check_optuna(found.name, direction, found)


def _optimizes(directions: Sequence[str]) -> str:
    if len(directions) == 1:
        return f"has the direction {directions[0]}"
    return f"has {len(directions)} objectives ({', '.join(directions)})"
