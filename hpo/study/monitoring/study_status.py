"""The status of a study as a value: its counts, its best trial, its agents and their slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hpo import formatting
from hpo.formatting import JsonRow
from hpo.outcomes import Outcome
from hpo.study.monitoring.retrain_progress import RetrainProgress
from storage.budget import Counts, fields
from storage.goals import Goals
from storage.repeats import Noise


@dataclass(frozen=True, kw_only=True)
class AgentRow(JsonRow):
    """An agent that is alive."""

    host: str
    pid: int
    slots: int
    seen_seconds: float
    """Seconds since its last heartbeat, by the database's clock."""


@dataclass(frozen=True, kw_only=True)
class RunningRow(JsonRow):
    """A trial that is running."""

    number: int | None
    epoch: int
    """Epochs completed."""
    metric: float | None
    """The objective's metric after the last completed epoch."""
    slot: int
    device: str
    host: str
    seconds: float
    """Seconds of this attempt, without pauses."""


@dataclass(frozen=True, kw_only=True)
class ExpiredRow(JsonRow):
    """A trial with an expired lease that no agent has taken over yet."""

    number: int | None
    epoch: int
    """Epochs completed, after which the trial resumes."""
    slot: int
    host: str
    seconds: float
    """Seconds since the lease expired."""


@dataclass(frozen=True, kw_only=True)
class StudyStatus(JsonRow):
    """`hpo status`."""

    json_keys = {"state": "condition", "desired_state": "control"}

    name: str
    objective: str
    state: str
    """`finished`, `running`, `idle` (no agent is alive), or `pausing`, `paused`, `stopping`, `stopped`."""
    desired_state: str
    metric: str
    direction: str
    epochs_per_trial: int
    """Epochs of a trial that is not pruned."""
    budget: int
    finished: int
    outcomes: Mapping[str, int]
    """Number of trials per outcome that occurred."""
    failed: int
    running: int
    prepared: int
    """Prefetched trials, which start when a slot is free."""
    paused: int = 0
    """Trials that freeze-thaw has paused: they go on later, or count as pruned at the end."""
    waiting: int
    """Open trials without a running attempt, which the next attempt resumes, and enqueued ones."""
    enqueued: int = 0
    """Waiting trials that are enqueued: a slot takes one in place of a trial that the sampler would propose."""
    expired: tuple[ExpiredRow, ...]
    """Waiting trials with an expired lease."""
    best_number: int | None
    best_value: float | None
    best_params: Mapping[str, Any] | None
    goals: Goals | None
    """Goals of the study, such as `--target`, and the progress towards them; None if it has none."""
    noise: Noise | None = None
    """Values of a trial that was repeated with other seeds, the last one that was; None if none was."""
    trial_timeout_seconds: float | None
    """Longest time that a trial may train."""
    epochs_trained: int
    """Epochs trained by all attempts, including epochs repeated after a loss."""
    mean_epochs: float | None
    """Mean number of completed epochs of finished trials."""
    elapsed_seconds: float
    """Seconds during which at least one agent was alive."""
    remaining_seconds: float | None
    """Estimate from the time that trials took so far and the slots that there are now; None if the study is not
    running or no trial has finished."""
    agents: tuple[AgentRow, ...]
    slots: tuple[RunningRow, ...]
    created_at: datetime
    note: str = ""
    """Note on the study, of `hpo note` or of the dashboard."""
    tags: tuple[str, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)
    """Number of trials that ran with each version of the objective's code, by its digest."""
    constraints: tuple[str, ...] = ()
    """Bounds of figures, `--constraint`."""
    also_minimize: str | None = None
    """Figure that is minimized next to the metric."""
    value_rule: str = "last"
    """Which report is the value of a trial: see `objectives.trial_value`."""
    is_experiment: bool = False
    """Whether its trials are the runs of `hpo ablate`."""
    has_test_set: bool = True
    """Whether the data have a test set, without which `hpo retrain` refuses; true while that is not known."""
    learned_from: Mapping[str, int] = field(default_factory=dict)
    """Number of trials of each earlier study from whose results the search started, by its name at that time."""
    retrain: RetrainProgress | None = None
    """Candidates of a retrain on this host that has not finished; None if there is none, or it has none."""
    better_added: str | None = None
    """Note on a result that is better than the best one and was added, not trained here."""

    @property
    def counts(self) -> Counts:
        """Trials of the study by state."""
        return Counts(
            **fields({Outcome(outcome): number for outcome, number in self.outcomes.items()}),
            budget=self.budget,
            rejected=self.outcomes.get(Outcome.REJECTED, 0),
            failed=self.failed,
            running=self.running,
            prepared=self.prepared,
            waiting=self.waiting,
            paused=self.paused,
        )

    @property
    def earlier_studies(self) -> str:
        """The earlier studies from whose results the search started: `a (50 trials) and b (12 trials)`."""
        return formatting.joined(
            [f"{name} ({formatting.counted(number, 'trial')})" for name, number in self.learned_from.items()]
        )

    @property
    def best(self) -> tuple[int, float, Mapping[str, Any]] | None:
        """Number, value and parameters of the best complete trial."""
        if self.best_number is None or self.best_value is None:
            return None
        return self.best_number, self.best_value, self.best_params or {}
