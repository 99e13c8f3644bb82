"""A run in memory, to try an objective by hand, in a notebook or in a test, without a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from objectives import values
from objectives.base import Device, MetricMissingError, Run, State, check_finite


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a later run needs to resume an earlier one."""

    epoch: int
    """Number of completed epochs."""
    state: State


@dataclass
class LocalRun(Run):
    """Keeps everything that an objective reports; `resume` continues from another run's `checkpoint`.

    run = LocalRun(total_epochs=2)
    objective.train(params, run)
    run.history[-1]["val_accuracy"]
    """

    total_epochs: int
    _: KW_ONLY
    seed: int = 0
    device: Device = field(default_factory=Device)
    """`Device("gpu:0", gpu="0")` trains on a GPU; the default uses no GPU."""
    final: bool = False
    output: Path | None = None
    metric: str | None = None
    """Metric that each report must contain; None: no requirement."""
    resume: Checkpoint | None = None
    stop_after: int | None = None
    """Epoch after which the run ends early, as a pruned or preempted one does."""
    history: list[dict[str, float]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    ticks: list[tuple[int, int, int]] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    """Checkpoint of the last epoch that was closed by `report` after a `save`."""
    _epoch: int = 0
    _saved: State | None = None

    @property
    def state(self) -> State | None:
        return self.resume.state if self.resume else None

    def epochs(self) -> Iterator[int]:
        start = self.resume.epoch if self.resume else 0
        last = min(self.total_epochs, self.stop_after or self.total_epochs)
        for self._epoch in range(start + 1, last + 1):
            yield self._epoch

    def save(self, state: State) -> None:
        self._saved = dict(state)

    def report(self, **metrics: float) -> None:
        reported = values.metrics(metrics)
        if self.metric and not self.final and self.metric not in reported:
            raise MetricMissingError(f"epoch {self._epoch} was reported without {self.metric!r}")
        self.history.append(reported)
        check_finite(reported, self.metric, self._epoch)
        if self._saved is not None:
            self.checkpoint = Checkpoint(self._epoch, self._saved)
            self._saved = None

    def tick(self, done: int, total: int, images: int = 0) -> None:
        self.ticks.append((done, total, images))

    def record(self, **results: Any) -> None:
        together = {**self.results, **values.records(results)}
        values.check_size(together)
        self.results = together

    def log(self, message: str) -> None:
        self.messages.append(message)
