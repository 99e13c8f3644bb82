"""Figures of trials that their study asks for, kept as user attributes in Optuna's tables."""

from __future__ import annotations

import json
import math
from typing import Literal

from sqlalchemy import Connection, text

from storage.attempts import read_metrics

FIGURE = "hpo_figure_"
"""Beginning of the names of the user attributes that hold figures."""

Kind = Literal["user", "system"]


def of_epochs(connection: Connection, attempt_id: int, epoch: int) -> tuple[dict[str, float], float]:
    """Return the metrics of an epoch of an attempt's trial, and the median seconds of its epochs."""
    row = connection.execute(
        text(
            "SELECT (SELECT metrics FROM hpo.epochs e WHERE e.reservation_id = a.reservation_id AND epoch = :e)"
            " AS metrics, (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM hpo.epochs e"
            " WHERE e.reservation_id = a.reservation_id) AS seconds FROM hpo.attempts a WHERE attempt_id = :a"
        ),
        {"a": attempt_id, "e": epoch},
    ).one()
    return read_metrics(row.metrics or {}), float(row.seconds or 0.0)


def of_trials(connection: Connection, study_id: int) -> dict[int, dict[str, float]]:
    """Return the figures of a study's trials by Optuna's trial_id; empty if the study asks for none."""
    rows = connection.execute(
        text(
            "SELECT u.trial_id, u.key, u.value_json FROM hpo.studies s JOIN hpo.trials t USING (study_id)"
            " JOIN public.trial_user_attributes u ON u.trial_id = t.trial_id AND starts_with(u.key, :figure)"
            " WHERE s.study_id = :s AND (s.spec->>'also_minimize' IS NOT NULL"
            "   OR json_array_length(coalesce(s.spec->'constraints', '[]')) > 0) ORDER BY u.trial_id, u.key"
        ),
        {"s": study_id, "figure": FIGURE},
    )
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        value = number(json.loads(row.value_json))
        if value is not None:
            found.setdefault(row.trial_id, {})[row.key.removeprefix(FIGURE)] = value
    return found


def number(value: object) -> float | None:
    """Return the value of an attribute as a figure; None for anything else, which other programs may have written."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_real and math.isfinite(value) else None  # type: ignore[arg-type]
