"""Distributions of the parameters of a study's trials, as Optuna stored them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text


def observed_distributions(connection: Connection, study_id: int) -> list[tuple[str, dict[str, Any]]]:
    """Return each parameter with each of its distributions in Optuna's JSON form, in the order of their first use."""
    rows = connection.execute(
        text(
            "SELECT p.param_name, p.distribution_json FROM trial_params p JOIN trials t USING (trial_id)"
            " WHERE t.study_id = :s GROUP BY p.param_name, p.distribution_json ORDER BY min(p.param_id)"
        ),
        {"s": study_id},
    )
    return [(row.param_name, json.loads(row.distribution_json)) for row in rows]
