"""`hpo rename`: another name for a study, in both sets of tables and in its folders on this host."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from hpo import formatting
from hpo.errors import FileNotWritableError, UsageError
from hpo.options.study_name import check_study_name
from hpo.study.catalog import StudyBusyError, check_name_is_free, read_study
from hpo.study.definition.twin import check_optuna
from hpo.study.folders import move, without_retrains
from hpo.study.predicates import alive_agent
from storage import budget, studies
from storage.optuna import studies as optuna_studies
from storage.tables import agents

if TYPE_CHECKING:
    from storage.engine import Database


def rename_study(
    database: Database, study: str, name: str, *, folders: Iterable[Path] = (), results: Path | None = None
) -> list[Path]:
    """Rename a study and its folder in each of `folders` and in `results`, or nothing; return the new folders.

    Other hosts move theirs when they next work for the study.

    Raises:
        UnknownStudyError: no study has the old name.
        StudyNameError, StudyConflictError: the new name is invalid or taken.
        StudyBusyError, RetrainRunningError: an agent or a retrain works for the study.
        FileNotWritableError: a folder cannot be renamed.
    """
    check_study_name(name)
    if name == study:
        raise UsageError(f"study {study!r} has that name already: give another one with --as")
    stored = database.transaction(lambda c: read_study(c, study, database))
    target = studies.folder_name(name, stored.uid)
    pairs = [(parent / stored.folder, parent / target) for parent in folders]
    if results is not None:
        pairs.append((results / study, results / name))
    pairs = [(source, new) for source, new in pairs if source.is_dir()]
    for source, new in pairs:
        if new.exists():
            raise FileNotWritableError(
                f"{new} exists already, so {source} cannot be renamed: move it away, or choose another name"
            )

    def commit(before: str, after: str, *, undo: bool = False) -> None:
        database.transaction(lambda c: _rename(c, database, stored.study_id, before, after, undo=undo))

    locked = pairs[0][0] if pairs else Path()
    with without_retrains(locked, study):
        commit(study, name)
        try:
            move(pairs)
        except FileNotWritableError:
            commit(name, study, undo=True)
            raise
    return [new for _, new in pairs]


def _rename(
    connection: Connection, database: Database, study_id: int, before: str, after: str, *, undo: bool
) -> None:
    # An agent that joins waits for the lock, and then finds the study renamed.
    budget.lock_study(connection, study_id)
    if studies.names(connection).get(study_id) == after:
        # Committed before; only the confirmation was lost.
        return
    study = read_study(connection, before, database)
    check_optuna(before, str(study.spec_json["direction"]), optuna_studies.find_by_id(connection, study_id))
    alive = connection.scalar(
        select(func.count()).select_from(agents).where(agents.c.study_id == study_id, alive_agent())
    )
    if alive and not undo:
        raise StudyBusyError(
            f"study {before!r} has {formatting.counted(alive, 'agent')} running: run hpo stop --study {before}"
            " first, and rename it when they have ended"
        )
    check_name_is_free(connection, after, database, but=study_id)
    studies.rename(connection, study_id, after)
    former = [name for name in studies.former_names(connection, study_id) if name != after]
    studies.set_former_names(connection, study_id, former if undo else [*former, before])
