"""Runs for tests of trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.trackers.runs import Epoch, Run


def run(
    attempts: Sequence[int] = (),
    outcome: str = "",
    number: int = 0,
    losses: Mapping[int, float] = {},
    **more: Any,
) -> Run:
    """Return a run with one epoch for each item of `attempts`, by the attempt that reported it."""
    epochs = [
        Epoch(
            epoch=epoch,
            attempt=attempt,
            metrics={"loss": losses.get(epoch, 1 / epoch)},
            at=1_700_000_000.0 + epoch,
        )
        for epoch, attempt in enumerate(attempts, 1)
    ]
    values = {
        "key": f"0a1b2c3d-trial-{number}",
        "name": f"trial-{number}",
        "group": "demo",
        "params": {"x": 0.5},
        "epochs": epochs,
        "results": {"hpo.value": 0.25} if outcome == "complete" else {},
        "began_at": 1_700_000_000.0,
        "ended_at": 1_700_000_100.0 if outcome else None,
        "outcome": outcome,
    }
    return Run(**{**values, **more})
