"""The runs that a supervisor keeps in slots, and the workload that chooses them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from hpo.outcomes import Outcome
from hpo.trainer.messages import (
    Annotate,
    Constrain,
    EpochRecord,
    Finished,
    Measure,
    Started,
    Suggest,
    Suggested,
    Tick,
)


@dataclass(kw_only=True)
class SupervisedRun:
    """A run in a slot, from the request for its trainer to its end."""

    heard_at: float = 0.0
    """Time of the trainer's last message, by the supervisor's clock."""
    started: bool = False
    """Whether the trainer runs; before, it may wait for a template."""
    first_step_due_at: float = math.inf
    """Time by the supervisor's clock after which a run without progress is reported; infinity: it has some, or was."""
    late: bool = False
    """Whether it was reported that it has taken no step yet."""
    loading: bool = False
    """Whether its last message was that it loads its data itself."""
    preempted: bool = False
    pruned: bool = False
    """Whether its trainer was asked to end because the trial is pruned."""
    ending_at: float | None = None
    """Monotonic time since which it was to end, as it was asked to: only code after its loop runs."""
    place: str = ""
    """Folder of its checkpoints, which all attempts of a trial share."""
    detached: bool = False
    """Whether the run has left its slot, so that later events of its trainer do not count."""
    epoch: int = 0
    """Number of completed epochs."""
    fraction: float = 0.0
    """Completed part of the current epoch."""
    images_per_second: float | None = None

    @property
    def context(self) -> Mapping[str, object]:
        """Context of the run's log records, which their messages do not repeat."""
        return {}

    @property
    def note(self) -> str:
        """Text that the view adds to its line; empty if it trains."""
        return "no step yet: hpo logs" if self.late else ""

    def progressed(self) -> None:
        """Note that it has taken a step, or asked for a parameter."""
        self.late, self.loading, self.first_step_due_at = False, False, math.inf

    def tick(self, tick: Tick) -> None:
        # Code after the report of an epoch may still report progress in it.
        self.epoch, self.fraction = max(self.epoch, tick.epoch - 1), tick.fraction
        self.images_per_second = tick.images_per_second


R = TypeVar("R", bound=SupervisedRun)


class Workload(ABC, Generic[R]):
    """Runs for a supervisor: `schedule` starts them, and the other methods are called as they proceed."""

    def poll(self) -> None:
        """Do periodic work; called once in each turn of the loop."""

    @abstractmethod
    def schedule(self) -> bool:
        """Start runs in free slots; return True when all work is done."""

    @abstractmethod
    def on_started(self, slot: int, run: R, event: Started) -> None:
        """Note that a trainer runs, and the epochs of the checkpoint that it resumes."""

    @abstractmethod
    def on_epoch(self, slot: int, run: R, record: EpochRecord) -> None:
        """Keep an epoch and answer the trainer."""

    def on_held(self, slot: int, run: R) -> None:
        """Note that a trainer waits, because the runs are paused."""

    def on_suggest(self, slot: int, run: R, event: Suggest) -> Suggested | None:  # noqa: ARG002 - for those who search
        """Return the value of a parameter that the objective asks for."""
        return Suggested(
            event.name,
            error=f"the configuration has no value in the range of the parameter {event.name!r} that the objective asks"
            " for: its code has changed, or it does not depend on its parameters alone",
        )

    def on_annotated(self, slot: int, run: R, event: Annotate | Constrain | Measure) -> None:
        """Keep an attribute, a constraint or figures of a trial."""

    @abstractmethod
    def on_finished(self, slot: int, run: R, finished: Finished) -> None:
        """Keep the outcome of a run; it must be detached."""

    @abstractmethod
    def on_lost(self, slot: int, run: R, reason: str, outcome: Outcome) -> None:
        """Note an attempt without a result: `LOST`, `HUNG` or `OUT_OF_MEMORY`; it must be detached."""

    def on_killed(self, slot: int, run: R) -> None:
        """Note a run that was asked to end, and whose process ended in another way; it must be detached."""
        self.release(slot, run)

    @abstractmethod
    def release(self, slot: int, run: R, reason: str | None = None) -> None:
        """Give a run back that ended through no fault of its own; it must be detached."""

    def release_queued(self) -> None:
        """Give runs without a slot back at a shutdown."""

    def refill(self, finished: Sequence[tuple[int, Finished]]) -> bool:  # noqa: ARG002 - for those who prefetch
        """Start prefetched runs in slots that have just become free; return True if any was."""
        return False

    def wants_prefetch(self) -> bool:
        """Whether the next run should be prepared as soon as no trainer has an event."""
        return False

    def prefetch(self) -> None:
        """Prepare the next run."""

    def fencing(self, slot: int, run: R) -> AbstractContextManager[None]:  # noqa: ARG002 - for those with leases
        """Return a context in which an event of a run is handled."""
        return nullcontext()

    def show(self) -> None:
        """Update the view; called once in each turn of the loop."""
