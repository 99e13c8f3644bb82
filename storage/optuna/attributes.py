"""Attributes of studies, kept in Optuna's tables, so that they are shown by its tools and go with its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

FORMER_NAMES = "hpo_former_names"
"""Names that the study had before it was renamed."""
TAGS = "hpo_tags"
"""Tags of the study."""


def read(connection: Connection, study_id: int, key: str) -> Any:
    """Return the value of an attribute, which other programs may have written; None if there is none."""
    found = connection.scalar(
        text("SELECT value_json FROM public.study_user_attributes WHERE study_id = :s AND key = :k"),
        {"s": study_id, "k": key},
    )
    return None if found is None else json.loads(found)


def tags(connection: Connection) -> dict[int, tuple[str, ...]]:
    """Return the tags of each study that has some, by its id."""
    rows = connection.execute(
        text("SELECT study_id, value_json FROM public.study_user_attributes WHERE key = :k"), {"k": TAGS}
    )
    found = {row.study_id: json.loads(row.value_json) for row in rows}
    return {study_id: texts(value) for study_id, value in found.items() if texts(value)}


def texts(value: Any) -> tuple[str, ...]:
    """Return the texts in the list that is the value of an attribute, which may be anything."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def write(connection: Connection, study_id: int, key: str, value: Sequence[str]) -> None:
    """Replace an attribute; an empty value removes it."""
    if value:
        statement = (
            "INSERT INTO public.study_user_attributes (study_id, key, value_json) VALUES (:s, :k, :v)"
            " ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
        )
    else:
        statement = "DELETE FROM public.study_user_attributes WHERE study_id = :s AND key = :k"
    connection.execute(text(statement), {"s": study_id, "k": key, "v": json.dumps(list(value))})
