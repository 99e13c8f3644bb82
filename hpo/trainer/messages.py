"""What crosses the pipes between an agent, its template and its trainers: small pickled values.

agent --Load--> template --Ready | Broken--> agent
agent --Fork (+ one end of a pipe)--> template --Forked | NotForked, Exited--> agent
agent --Start--> trainer --Started, Tick, Epoch, Finished--> agent
agent --Go | Prune | Yield | Hold | Resume--> trainer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo.outcomes import Outcome
from objectives.base import DataOptions, Description, Device, Params


@dataclass(frozen=True)
class Load:
    """Import this objective and its data once."""

    objective: str
    data: DataOptions
    final: bool
    """Whether the test set is needed: only to retrain."""


@dataclass(frozen=True)
class Described:
    """The objective's class is imported: what it searches."""

    description: Description


@dataclass(frozen=True)
class Ready:
    """Trainers can be forked."""

    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class LoadFailed:
    """The objective or its data could not be loaded; the template ends."""

    error: str
    """Name of the `HpoError` class to raise."""
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Fork:
    """Fork a trainer; the connection it talks on follows as a file descriptor."""

    serial: int
    """Which request this is: slots are used again."""
    device: Device


@dataclass(frozen=True)
class Forked:
    """The trainer of a request leads this process group, which is its process id too."""

    serial: int
    pid: int


@dataclass(frozen=True)
class NotForked:
    """There was no process to be had for a request: the host's limit is reached, or its memory."""

    serial: int
    reason: str


@dataclass(frozen=True)
class Exited:
    """A trainer ended: an exit code, or minus the signal that killed it."""

    pid: int
    status: int


@dataclass(frozen=True)
class Start:
    """One attempt: all that a trainer is told."""

    params: Params
    seed: int
    epochs: int
    metric: str
    device: Device
    checkpoints: str
    """Folder of this trial's checkpoints; the newest sound one is continued."""
    log: str
    """File that the attempt's output is appended to."""
    final: bool = False
    keeps_end: bool = False
    """Whether how it ended is kept beside its checkpoints until the folder goes: of a trial, whose agent may die before
    the database knows. What is retrained may be tried again otherwise."""
    output: str | None = None
    reply_seconds: float = 2.0
    """How long the trainer waits after an epoch to hear whether to go on; then it goes on."""
    memory_bytes: int | None = None
    """Most memory that the trainer may allocate beyond what it was forked with."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch completed."""

    epoch: int
    """Counted from 1."""
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Started:
    """The trainer runs; `history` holds the epochs of the checkpoint it continues."""

    pid: int
    resumed_from: int
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class Tick:
    """Progress inside an epoch, at most one a second."""

    epoch: int
    fraction: float
    images_per_second: float


@dataclass(frozen=True)
class Epoch:
    """An epoch was completed and its checkpoint written."""

    record: EpochRecord


@dataclass(frozen=True)
class Finished:
    """The attempt ended by itself."""

    outcome: Outcome
    error: str = ""
    traceback: str = ""
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Continue:
    """The answer to an epoch: train the next one."""

    epoch: int


@dataclass(frozen=True)
class Pause:
    """Wait at the next batch until a `Resume` comes: the study is paused."""


@dataclass(frozen=True)
class Resume:
    """Go on after a `Pause`."""


@dataclass(frozen=True)
class Prune:
    """End: the pruner gave this trial up."""


@dataclass(frozen=True)
class Preempt:
    """End at the next epoch: the checkpoint will be continued elsewhere or later."""


ToTrainer = Start | Continue | Prune | Preempt | Pause | Resume
FromTrainer = Started | Tick | Epoch | Finished
FromTemplate = Described | Ready | LoadFailed | Forked | NotForked | Exited
