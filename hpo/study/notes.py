"""Notes on trials and studies, kept where Optuna's dashboard reads and edits them: in the study's attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from hpo.errors import UsageError
from hpo.study.catalog import find_study
from objectives import values

if TYPE_CHECKING:
    from storage.engine import Database

LONGEST = 2000
"""Most characters of a note: the dashboard loads all notes whenever it refreshes."""


def save_note(database: Database, study: str, number: int | None, note: str) -> None:
    """Replace the note on a trial, or on the study if `number` is None; an empty one removes it.

    Raises:
        UnknownStudyError: no study has that name.
        UsageError: it has no trial of that number, or the note is too long.
    """
    import optuna
    import optuna_dashboard

    from hpo.study.definition.twin import optuna_twin

    stored = find_study(database, study)
    if len(note) > LONGEST:
        raise UsageError(f"the note has {len(note)} characters: write at most {LONGEST}")
    twin = optuna_twin(database, stored)
    if number is None:
        optuna_dashboard.save_note(twin, values.text(note))
        return
    found = next((one for one in twin.get_trials(deepcopy=False) if one.number == number), None)
    if found is None:
        raise UsageError(f"study {study!r} has no trial {number}: hpo trials --study {study} lists them")
    optuna_dashboard.save_note(optuna.Trial(twin, found._trial_id), values.text(note))


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
