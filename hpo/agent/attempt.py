"""A trial that is being trained in a slot, as its agent knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hpo.agent.attempt_log import AttemptLog
from hpo.terminal.progress import SlotView
from hpo.trainer.messages import Tick
from objectives.base import Params
from storage.budget import Claim


@dataclass
class RunningAttempt:
    """One attempt, from when its trainer is asked for until it has ended."""

    claim: Claim
    trial_id: int
    number: int
    params: Params
    log: AttemptLog
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    started: bool = False
    """Whether its trainer has said so; else it may still wait for a template."""
    epoch: int = 0
    """Epochs completed."""
    fraction: float = 0.0
    """Of the epoch in progress."""
    value: float | None = None
    """The objective's metric after the last epoch."""
    images_per_second: float | None = None
    yielding: bool = False
    dropped: bool = False
    """Whether it has ended here: what its trainer may still say counts no more."""

    def tick(self, tick: Tick) -> None:
        """Note progress inside an epoch."""
        self.epoch, self.fraction = tick.epoch - 1, tick.fraction
        self.images_per_second = tick.images_per_second

    def view(self, device: str, epochs: int) -> SlotView:
        """Its slot, as it is shown."""
        return SlotView(
            device, self.number, self.epoch, epochs, self.fraction, self.value, self.images_per_second
        )
