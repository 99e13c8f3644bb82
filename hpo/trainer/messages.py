"""Messages between an agent and its trainers; those to the agent are JSON, see `pipe`.

agent --Start--> trainer --Started, Loaded, Tick, Held, Epoch, Ending, Imported, Finished--> agent
(repeated while the trainer stays)
agent --Continue | Command--> trainer
trainer --Measure--> agent, if the study asks for figures
trainer --LaneSpeed--> agent, if it measures how many lanes are fastest
trainer --Suggest, Annotate, Constrain--> agent, of objectives with an open space; agent --Suggested--> trainer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hpo.outcomes import Outcome
from objectives.base import Direction, Params
from objectives.device import Device
from objectives.runs.figures import Constraint


@dataclass(frozen=True, kw_only=True)
class Start:
    """One attempt, as the first message to its trainer."""

    params: Params
    seed: int
    epochs: int | None
    """None: only the objective knows."""
    restarts: tuple[int, ...] = ()
    """Epochs after which the schedule begins again."""
    metric: str
    device: Device
    checkpoints: str
    """Folder of this trial's checkpoints; the trainer resumes from the newest undamaged one."""
    log: str
    """File to which the attempt's output is appended."""
    final: bool = False
    saves_outcome: bool = False
    """Whether each outcome is saved next to the checkpoints: a trial's agent may die before the database has it. Of a
    run of a retrain, only a complete result is saved; another outcome ends the retrain, which may be repeated."""
    output: str | None = None
    number: int = 0
    study: str = ""
    direction: Direction = "minimize"
    reply_seconds: float = 2.0
    """Longest wait for the answer to an epoch, after which the trainer continues."""
    ahead: int = 0
    """Epochs without an answer after which the trainer waits for one: 0 where each answer may end the run."""
    memory_bytes: int | None = None
    """Limit of the memory that the trainer allocates after the fork."""
    may_stay: bool = False
    """Whether the trainer may wait for another attempt after this one, if nothing is left of it that could matter."""
    alone: bool = False
    """Whether no other attempt may be trained in its process."""
    checks: bool = False
    """Whether the objective is only checked, and nothing is trained or kept."""
    most_lanes: int = 0
    """Largest number of lanes whose speed is measured, where nothing else is trained or kept; 0: an attempt."""
    code: str = ""
    """Digest of the objective's code, which checkpoints keep."""
    restarts_other_code: bool = False
    """Whether a state that other code has trained is not resumed."""
    figures: tuple[str, ...] = ()
    """Names of the figures that the study asks for."""
    constraints: tuple[Constraint, ...] = ()
    """Constraints of the study, which a trial that has not trained is ended for."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch completed."""

    epoch: int
    """Counted from 1."""
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Started:
    """The trainer runs; `history` holds the epochs of the checkpoint that it continues, or of a saved outcome."""

    pid: int
    resumed_from: int
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The trainer has loaded the objective's data itself."""

    data: str
    """Digest of the data, see `hpo.trainer.template.data_digest`."""


@dataclass(frozen=True)
class Tick:
    """Progress inside an epoch, at most one a second."""

    epoch: int
    fraction: float
    images_per_second: float


@dataclass(frozen=True)
class Held:
    """The trainer waits, because its study is paused."""


@dataclass(frozen=True)
class Ending:
    """The run trains no further epoch, because it was asked to end: code after its loop runs."""


@dataclass(frozen=True)
class Epoch:
    """An epoch was completed, and its state written if one was saved."""

    record: EpochRecord


@dataclass(frozen=True)
class Imported:
    """The trial has imported modules which its template may import for the next ones."""

    modules: tuple[str, ...]
    obstacle: str = ""
    """Reason why it may not; empty if it may."""


@dataclass(frozen=True)
class Finished:
    """The attempt ended with an outcome."""

    outcome: Outcome
    error: str = ""
    traceback: str = ""
    results: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    """Value that the objective returned; None: the metric of the last epoch decides."""
    stays: bool = False
    """Whether the trainer waits for a further `Start`."""
    shared: bool = False
    """Whether it ended through a failure of what several lanes share, so that its trial may not be at fault."""


@dataclass(frozen=True)
class Suggest:
    """The objective asks for a parameter of its open space."""

    name: str
    distribution: str
    """Optuna's JSON form of the distribution, with stored forms as choices."""


@dataclass(frozen=True)
class Annotate:
    """The objective sets a user attribute of its trial."""

    name: str
    value: Any


@dataclass(frozen=True)
class Constrain:
    """The objective sets a constraint of its trial."""

    name: str
    value: float


@dataclass(frozen=True)
class Measure:
    """Figures of the trial that the study asks for, known before its first epoch."""

    figures: Mapping[str, float]


@dataclass(frozen=True)
class LaneSpeed:
    """So many lanes train so many images a second together."""

    lanes: int
    images_per_second: float


@dataclass(frozen=True)
class Suggested:
    """The value of a parameter in its stored form: the answer to a `Suggest`."""

    name: str
    value: Any = None
    error: str = ""
    """Reason why it has no value; empty if it has one."""


@dataclass(frozen=True)
class Continue:
    """Train the next epoch: the answer to an `Epoch`."""

    epoch: int


class Command(Enum):
    """A request to a running trainer."""

    PAUSE = "pause"
    """Wait at the next batch: the study is paused."""
    RESUME = "resume"
    PRUNE = "prune"
    """End: the pruner has ended this trial."""
    PREEMPT = "preempt"
    """End after the epoch: the trial resumes from its checkpoint later or elsewhere."""


ToTrainer = Start | Continue | Suggested | Command
FromTrainer = (
    Started
    | Loaded
    | Tick
    | Held
    | Epoch
    | Measure
    | Suggest
    | Annotate
    | Constrain
    | Ending
    | Imported
    | LaneSpeed
    | Finished
)
