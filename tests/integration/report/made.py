"""Trials, retrains and texts of reports for tests."""

from __future__ import annotations

import math
import re

from hpo.analysis.statistics import summarize
from hpo.report.study_report import report_files
from hpo.study.history import read_history
from tests.integration.rows import StudyRows


def trained(
    rows: StudyRows,
    *values: float,
    outcome: str | None = "complete",
    versions: dict[str, str] | None = None,
    **more: object,
) -> int:
    """Insert a trial with one epoch for each value."""
    final = values[-1] if outcome in ("complete", "pruned") else None
    reservation_id = rows.trial(outcome, final, completed=len(values), **more)
    attempt = rows.attempt(
        reservation_id,
        rows.agent(ended=1.0, versions=versions),
        ended=50.0,
        completed=len(values),
        outcome=outcome or "released",
    )
    for epoch, value in enumerate(values, start=1):
        shown = value if math.isfinite(value) else "nan"
        rows.epoch(reservation_id, attempt, epoch, {"val_accuracy": shown, "loss": 1 / epoch})
    return reservation_id


def files(rows: StudyRows) -> dict[str, bytes]:
    return report_files(read_history(rows.database, rows.name))


def report_text(found: dict[str, bytes]) -> str:
    """Return the Markdown report without escapes."""
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", found["report.md"].decode())


def candidates(*given: tuple[dict, list[float], bool]) -> dict:
    return {
        "metric": "val_accuracy",
        "seeds": [1, 2, 3],
        "candidates": [
            {
                "trial": index,
                "params": params,
                "search_value": 0.9,
                "values": values,
                **summarize(values).to_json(),
                "seconds": 1.0,
                "failure": None,
                "chosen": chosen,
            }
            for index, (params, values, chosen) in enumerate(given)
        ],
    }
