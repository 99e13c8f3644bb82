"""The default configuration in a slot, and the measurement that all slots give."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hpo.files.bounded_log import BoundedLog
from hpo.planning.memory import Memory
from hpo.trainer.messages import Tick
from hpo.trainer.workload import SupervisedRun
from objectives.base import Params

LEAST_EPOCHS = 3
"""Epochs after the first one that each slot trains, as far as a trial has them."""
LEAST_SECONDS = 3.0
"""Time that these epochs take at least, or more of them are trained."""


@dataclass(kw_only=True)
class ProbeRun(SupervisedRun):
    """The default configuration in a slot."""

    slot: int
    epochs: int | None
    """Epochs of a trial; None: only its end shows its time."""
    folder: Path
    """Folder of its checkpoints."""
    printed: BoundedLog
    pid: int | None = None
    began_at: float = 0.0
    epochs_at: list[float] = field(default_factory=list)
    """Times of the ends of its epochs."""
    first_seconds: float = 0.0
    """Time of its first epoch."""
    ticks: list[tuple[float, float]] = field(default_factory=list)
    """Time and completed part of the first epoch of each report within it."""
    ended_at: float | None = None

    def tick(self, tick: Tick) -> None:
        super().tick(tick)
        if tick.epoch == 1 and tick.fraction > 0.0:
            self.ticks.append((time.monotonic(), tick.fraction))

    @property
    def intervals(self) -> list[float]:
        """Times of its epochs after the first one."""
        return [after - before for before, after in pairwise(self.epochs_at)]

    @property
    def has_started(self) -> bool:
        """Whether the time of its start is known."""
        return self.ended_at is not None or (bool(self.epochs_at) and self.epochs is not None)

    @property
    def enough(self) -> bool:
        """Whether it has ended, or trained long enough to know the time of an epoch."""
        if self.ended_at is not None or self.epochs is None:
            return self.ended_at is not None
        return len(self.intervals) >= LEAST_EPOCHS and sum(self.intervals) >= LEAST_SECONDS


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The times and the memory of the default configuration."""

    params: Params
    """The configuration, with all parameters that the objective has asked for."""
    start_seconds: float
    epoch_seconds: float
    measured_epochs: int
    """Epochs of which `epoch_seconds` is the median; 0: it follows from a part of the first one."""
    trial_seconds: float | None
    """Time of a trial that ended; None: none has."""
    ended_after: int | None
    """Epochs of a trial that ended."""
    memory: Memory | None
    checkpoint_bytes: int
