"""The goals of the measurement, next to what was measured."""

from __future__ import annotations

from bench.report import Row, ratio


def rows(found: Row, searched: str) -> list[Row]:
    """Return a row for each goal; `found` are the figures of the parts, of the objective that was searched too."""
    spent = [float(found[name]) for name in ("seconds", "retrain seconds") if name in found]
    return [
        {
            "goal": "epochs an hour of the search, of one trial at a time",
            "at least": 5,
            "measured": found.get("times"),
        },
        {
            "goal": "images/s of the search, of the highest rate measured",
            "at least": 0.6,
            "measured": ratio(found.get("search"), found.get(searched)),
        },
        {"goal": "test accuracy", "at least": 0.94, "measured": found.get("accuracy")},
        {
            "goal": "minutes of search and retrain",
            "at most": 5,
            "measured": sum(spent) / 60 if len(spent) == 2 else None,
        },
    ]
