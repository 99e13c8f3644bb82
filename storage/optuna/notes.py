"""Notes of studies and trials, kept where Optuna's dashboard keeps them: in system attributes of the study.

The key of a note's version is `dashboard:note_ver`, those of its pieces are `dashboard:note_str:0` and so on; in
keys of a trial's note, the trial's id follows `dashboard:`. `optuna_dashboard.save_note` writes the same, but its
import takes five times as long as the command.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, text


def write(connection: Connection, study_id: int, trial_id: int | None, note: str) -> None:
    """Replace the note on a trial, or on the study if `trial_id` is None, by one that fits into a piece."""
    prefix = "dashboard:" if trial_id is None else f"dashboard:{trial_id}:"
    version = f"{prefix}note_ver"
    # A page of the dashboard that shows an earlier version cannot overwrite this one.
    before = connection.scalar(
        text("SELECT value_json FROM public.study_system_attributes WHERE study_id = :s AND key = :k"),
        {"s": study_id, "k": version},
    )
    connection.execute(
        text("DELETE FROM public.study_system_attributes WHERE study_id = :s AND starts_with(key, :p)"),
        {"s": study_id, "p": f"{prefix}note_str:"},
    )
    rows: dict[str, int | str] = {version: _number(before) + 1}
    if note:
        rows[f"{prefix}note_str:0"] = note
    for key, value in rows.items():
        connection.execute(
            text(
                "INSERT INTO public.study_system_attributes (study_id, key, value_json) VALUES (:s, :k, :v)"
                " ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
            ),
            {"s": study_id, "k": key, "v": json.dumps(value)},
        )


def _number(version: str | None) -> int:
    """Return a version as a number; 0 if there is none, or a program has written something else."""
    found = json.loads(version) if version else 0
    return found if isinstance(found, int) else 0
