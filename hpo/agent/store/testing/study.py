"""The database of one study in memory, for tests of an agent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import Ladder
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from objectives.base import Params
from storage.attempts import LeaseLostError


@dataclass(kw_only=True)
class FakeTrial:
    """A row of `hpo.trials` with its epochs; its reservation is also its Optuna id."""

    reservation_id: int
    params: Params | None = None
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    annotations: dict[str, object] = field(default_factory=dict)
    """Attributes and constraints that the objective has set."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures that the study asks for."""
    reporters: dict[int, int] = field(default_factory=dict)
    """Attempt that reported each epoch."""
    outcome: Outcome | None = None
    value: float | None = None
    error: str = ""
    lost: int = 0
    paused: bool = False

    @property
    def number(self) -> int:
        return self.reservation_id - 1

    def settle(self, outcome: Outcome, value: float | None, error: str) -> None:
        self.outcome, self.error = outcome, error
        self.value = value if value is not None and math.isfinite(value) else None


@dataclass(kw_only=True)
class FakeAttempt:
    """A row of `hpo.attempts`."""

    attempt_id: int
    trial: FakeTrial
    agent_id: int
    slot: int
    device: str
    outcome: Outcome | None = None
    expired: bool = False
    """Whether its lease has run out."""
    began: bool = False
    held: bool = False

    @property
    def open(self) -> bool:
        return self.outcome is None


@dataclass(kw_only=True)
class FakeStudy:
    """The database of one study, which several stores may share."""

    spec: StudySpec
    budget: int = 1
    desired_state: str = "run"
    trials: list[FakeTrial] = field(default_factory=list)
    attempts: list[FakeAttempt] = field(default_factory=list)
    agents: int = 0
    logs: dict[int, str] = field(default_factory=dict)
    data: str = ""
    prunes: Callable[[int, int], bool] = lambda _number, _epoch: False
    """Whether the pruner ends a trial, by number, after an epoch."""
    _ladder: Ladder | None = None

    @property
    def ladder(self) -> Ladder | None:
        """The rungs of freeze-thaw, if trials pause at them."""
        rule = freeze_thaw_of(self.spec)
        if self._ladder is None and rule is not None:
            self._ladder = Ladder(rule)
        return self._ladder

    def guard(self, attempt_id: int) -> FakeAttempt:
        """Return an attempt; raise LeaseLostError if it has ended."""
        attempt = self.attempts[attempt_id - 1]
        if not attempt.open:
            raise LeaseLostError
        return attempt

    def expire_leases(self) -> None:
        """Let all leases run out, as after the silence of their agents."""
        for attempt in self.attempts:
            attempt.expired = attempt.open

    def attempts_of(self, trial: FakeTrial) -> list[FakeAttempt]:
        return [attempt for attempt in self.attempts if attempt.trial is trial]

    def undecided(self, *, running: bool) -> list[FakeTrial]:
        """Return the trials without an outcome that an agent trains, or those that wait."""
        trials = [trial for trial in self.trials if trial.outcome is None]
        return [one for one in trials if any(attempt.open for attempt in self.attempts_of(one)) is running]
