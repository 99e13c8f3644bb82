"""A run in memory, to try an objective by hand, in a notebook or in a test, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution

from objectives.base import State
from objectives.checked_run import CheckedRun
from objectives.device import Device
from objectives.states import copy_state

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a later run needs to resume an earlier one."""

    epoch: int
    """Number of completed epochs."""
    state: State


@dataclass
class LocalRun(CheckedRun):
    """Keeps everything that an objective reports; `resume` continues from another run's `checkpoint`.

    Accepts and refuses the same calls as the service.

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
    """Metric that each report must contain; None: that of the objective whose `train` is called."""
    resume: Checkpoint | None = None
    restarts: Sequence[int] = ()
    stop_after: int | None = None
    """Epoch after which the run ends early, as a pruned or preempted one does."""
    history: list[dict[str, float]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes that an Optuna objective has set."""
    constraints: dict[str, float] = field(default_factory=dict)
    figures: Sequence[str] = ()
    measured: dict[str, float] = field(default_factory=dict)
    """Those of the `figures` that the objective has measured."""
    messages: list[str] = field(default_factory=list)
    ticks: list[tuple[int, int, int]] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    """The last saved state and its epoch; first that of `resume`."""

    def __post_init__(self) -> None:
        self._completed = self.resume.epoch if self.resume else 0
        self.checkpoint = self.checkpoint or self.resume
        self._state = copy_state(self.resume.state) if self.resume else None
        self._suggested: dict[str, Any] = {}

    @cached_property
    def _sampler(self) -> BaseSampler:
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=self.seed % 2**32)

    @property
    def state(self) -> State | None:
        return self._state

    def _begin(self, epoch: int) -> bool:
        return self.stop_after is None or epoch <= self.stop_after

    def _close(self, metrics: dict[str, float], state: State | None) -> None:
        self.history.append(metrics)
        if state is not None:
            self._keep(state)

    def _keep(self, state: State) -> None:
        self.checkpoint = Checkpoint(self._completed, state)

    def tick(self, done: int, total: int, images: int = 0) -> None:
        self.ticks.append((done, total, images))

    def _sample(self, name: str, distribution: BaseDistribution) -> Any:
        """Return a random value, drawn by the run's seed."""
        if name not in self._suggested:
            # Its random numbers need neither a study nor a trial.
            self._suggested[name] = self._sampler.sample_independent(None, None, name, distribution)  # type: ignore[arg-type]
        return self._suggested[name]

    def _keep_attribute(self, name: str, value: Any) -> None:
        self.attributes[name] = value

    def _keep_constraint(self, name: str, value: float) -> None:
        self.constraints[name] = value

    def _keep_figures(self, figures: Mapping[str, float]) -> None:
        self.measured |= {name: value for name, value in figures.items() if name in self.figures}

    def log(self, message: str) -> None:
        self.messages.append(message)
