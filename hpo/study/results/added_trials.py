"""Trials that a study has in Optuna's tables alone: results added there, by plain Optuna or `hpo import`.

The sampler learns from them. They were not trained here, so they have no epochs, seed or checkpoint: they neither count
towards the budget nor can they be the best trial, and every place that names the best one mentions a better added one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import json_to_distribution
from sqlalchemy import Connection, text

import objectives.spaces.choices  # noqa: F401 - it silences Optuna's warning of choices that are lists
from storage.optuna.trials import IMPORT_ATTRIBUTE, REFUSAL_ATTRIBUTE, RESERVATION_ATTRIBUTE

if TYPE_CHECKING:
    from storage.studies import StoredStudy


@dataclass(frozen=True, kw_only=True)
class AddedTrial:
    """A trial that no agent trained."""

    number: int
    state: str
    """Optuna's state in lower case; `waiting` if it is enqueued."""
    value: float | None
    """Value of a complete or pruned trial; of a pruned one without it, its last report."""
    params: Mapping[str, Any]
    why: str
    created_at: datetime | None

    @property
    def is_result(self) -> bool:
        return self.state == "complete" and self.value is not None


_ADDED = """
    FROM public.trials t
    LEFT JOIN public.trial_values v ON v.trial_id = t.trial_id AND v.objective = 0 AND v.value_type = 'FINITE'
    LEFT JOIN public.trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = :refusal
    LEFT JOIN public.trial_user_attributes i ON i.trial_id = t.trial_id AND i.key = :imported
    LEFT JOIN public.trial_system_attributes f ON f.trial_id = t.trial_id AND f.key = 'fixed_params'
    WHERE t.study_id = :s
      AND NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)
      AND NOT EXISTS (SELECT 1 FROM public.trial_user_attributes u WHERE u.trial_id = t.trial_id AND u.key = :own)
"""
_LAST_REPORT = (
    "SELECT p.intermediate_value FROM public.trial_intermediate_values p WHERE p.trial_id = t.trial_id"
    " AND p.intermediate_value_type = 'FINITE' ORDER BY p.step DESC LIMIT 1"
)
_VIOLATES = (
    "EXISTS (SELECT 1 FROM public.trial_system_attributes c WHERE c.trial_id = t.trial_id"
    # Any text that is not a number of at most 0.
    r" AND starts_with(c.key, 'constraints:') AND c.value_json !~ '^(-|0(\.0*)?$)')"
)
"""Whether a trial violates one of its constraints."""
_COLUMNS = (
    "SELECT t.trial_id, t.number, t.datetime_start AS created_at, lower(t.state::text) AS state,"
    f" CASE WHEN t.state = 'PRUNED' THEN coalesce(v.value, ({_LAST_REPORT})) ELSE v.value END AS value,"
    " r.value_json AS refusal, i.value_json AS imported, f.value_json AS fixed"
)


def read_added(connection: Connection, study_id: int) -> list[AddedTrial]:
    """Return the trials of a study that no agent trained, ordered by number."""
    found = connection.execute(text(f"{_COLUMNS} {_ADDED} ORDER BY t.number"), _keys(study_id)).all()
    params: dict[int, dict[str, Any]] = {row.trial_id: json.loads(row.fixed or "{}") for row in found}
    values = text(
        "SELECT trial_id, param_name, param_value, distribution_json FROM public.trial_params"
        " WHERE trial_id = ANY(:ids) ORDER BY param_id"
    )
    for row in connection.execute(values, {"ids": list(params)}):
        distribution = json_to_distribution(row.distribution_json)
        params[row.trial_id][row.param_name] = distribution.to_external_repr(row.param_value)
    return [
        AddedTrial(
            number=row.number,
            state=row.state,
            value=row.value if row.state in ("complete", "pruned") else None,
            params=params[row.trial_id],
            why=_why(row.state, row.refusal, row.imported),
            created_at=row.created_at,
        )
        for row in found
    ]


def _why(state: str, refusal: str | None, imported: str | None) -> str:
    if refusal is not None:
        return f"enqueued, but not trained: {json.loads(refusal)}"
    if state == "waiting":
        return "enqueued"
    if imported is not None:
        return f"imported from {json.loads(imported)}, not trained here"
    return "added with plain Optuna, not trained here"


def better_added(connection: Connection, study: StoredStudy, value: float | None) -> str | None:
    """Return a sentence on the best added result if it is better than `value`, else None."""
    order = "DESC" if study.maximize else "ASC"
    best = connection.execute(
        text(
            f"{_COLUMNS} {_ADDED} AND t.state = 'COMPLETE' AND v.value IS NOT NULL AND NOT {_VIOLATES}"
            f" ORDER BY v.value {order} LIMIT 1"
        ),
        _keys(study.study_id),
    ).one_or_none()
    sign = -1 if study.maximize else 1
    if best is None or (value is not None and sign * best.value >= sign * value):
        return None
    return (
        f"trial {best.number} has a better {study.metric}, {best.value:.6g}, but was added with plain Optuna or hpo"
        " import and not trained here: hpo enqueue trains its parameters"
    )


def _keys(study_id: int) -> dict[str, object]:
    return {
        "s": study_id,
        "refusal": REFUSAL_ATTRIBUTE,
        "imported": IMPORT_ATTRIBUTE,
        "own": RESERVATION_ATTRIBUTE,
    }
