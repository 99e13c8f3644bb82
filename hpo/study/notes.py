"""Notes on trials and studies, kept where Optuna's dashboard reads and edits them: in the study's attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from hpo.errors import UsageError
from hpo.study.catalog import read_study
from hpo.study.definition.twin import check_optuna
from objectives import values
from storage.optuna import notes
from storage.optuna import studies as optuna_studies
from storage.optuna import trials as optuna_trials

if TYPE_CHECKING:
    from storage.engine import Database

LONGEST = 2000
"""Most characters of a note: the dashboard loads all notes whenever it refreshes."""


def save_note(database: Database, study: str, number: int | None, note: str) -> None:
    """Replace the note on a trial, or on the study if `number` is None; an empty one removes it.

    Raises:
        UnknownStudyError: no study has that name.
        StudyConflictError: it was deleted or changed with plain Optuna.
        UsageError: it has no trial of that number, or the note is too long.
    """
    if len(note) > LONGEST:
        raise UsageError(f"the note has {len(note)} characters: write at most {LONGEST}")

    def write(connection: Connection) -> None:
        stored = read_study(connection, study, database)
        study_id = stored.study_id
        check_optuna(
            study, str(stored.spec_json["direction"]), optuna_studies.find_by_id(connection, study_id)
        )
        trial_id = None if number is None else optuna_trials.find(connection, study_id, number)
        if number is not None and trial_id is None:
            raise UsageError(f"study {study!r} has no trial {number}: hpo trials --study {study} lists them")
        notes.write(connection, study_id, trial_id, values.text(note))

    database.transaction(write)


def read_study_note(connection: Connection, study_id: int) -> str:
    """Return the note on a study; empty if it has none."""
    rows = connection.execute(
        text(
            "SELECT value_json FROM public.study_system_attributes WHERE study_id = :s"
            " AND key ~ '^dashboard:note_str:[0-9]+$' ORDER BY length(key), key"
        ),
        {"s": study_id},
    )
    parts = map(json.loads, rows.scalars())
    return "".join(part for part in parts if isinstance(part, str))


def read_notes(connection: Connection, study_id: int) -> dict[int, str]:
    """Return the notes of a study's trials by trial number, those written in the dashboard included."""
    rows = connection.execute(
        text(
            "SELECT t.number, a.value_json FROM public.study_system_attributes a JOIN public.trials t"
            " ON t.study_id = a.study_id AND a.key ~ ('^dashboard:' || t.trial_id || ':note_str:[0-9]+$')"
            " WHERE a.study_id = :s AND a.key LIKE 'dashboard:%:note_str:%'"
            " ORDER BY t.number, length(a.key), a.key"
        ),
        {"s": study_id},
    )
    found: dict[int, str] = {}
    for row in rows:
        part = json.loads(row.value_json)
        # Programs that use Optuna may write anything.
        if isinstance(part, str):
            found[row.number] = found.get(row.number, "") + values.text(part)
    return {number: note for number, note in found.items() if note}
