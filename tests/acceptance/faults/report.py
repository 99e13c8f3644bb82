"""Figures of a study under random faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.faults.schedule import FAULTS


@dataclass
class Report:
    """Faults that were injected, and their cost."""

    seed: int
    trials: int
    sampler: str
    pruner: str
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    during_cuts: int = 0
    """Faults that were injected while one or all agents were cut off."""
    failed: int = 0
    """Trials that were lost `--max-lost` times."""
    attempts: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Lost and hung attempts by reason."""
    fenced: int = 0
    """Attempts whose agent was cut off alone, and was fenced when it reconnected."""
    outlived: int = 0
    """Attempts that continued although their lease expired while all agents were cut off."""
    epochs: int = 0
    """Epochs recorded in all trials."""
    again: int = 0
    """Epochs trained more than once."""
    late: int = 0
    """Epochs trained by a fenced attempt while its agent was cut off."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "faults": dict(sorted(self.faults.items())), "seconds": round(self.seconds, 1)}

    def row(self) -> str:
        """Return a row of the table in `docs/log.md`."""
        return _row(
            self.seed, self.sampler, self.pruner, self.trials, round(self.seconds),
            *(self.faults[kind] for kind in FAULTS), self.during_cuts,
            self.attempts, self.lost.total(), self.fenced, self.outlived, self.failed,
            self.epochs, self.again, self.late,
        )  # fmt: skip


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


HEADER = _row(
    "seed", "sampler", "pruner", "finished trials", "s", *FAULTS,
    "during a cut", "attempts", "lost", "fenced", "outlived a cut of all", "trials failed",
    "epochs kept", "trained again", "trained while fenced",
)  # fmt: skip
