"""Runs as trackers show them, and the part of each that a tracker has already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Metrics of one epoch."""

    epoch: int
    """Completed epochs, counted from 1: the step of its points."""
    attempt: int
    """The attempt that reported it: an epoch that is trained again has another."""
    metrics: Mapping[str, float]
    at: float
    """Time in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A confusion matrix: rows are true classes, columns predicted ones."""

    counts: Sequence[Sequence[int]]
    classes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trial, retrain or seed run."""

    key: str
    """Id that no other run has, made of the characters that every tracker accepts."""
    name: str
    group: str
    """Name of its study."""
    params: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Seed, objective, host and the like."""
    tags: Sequence[str] = ()
    """Tags of the study."""
    epochs: Sequence[Epoch] = ()
    results: Mapping[str, float] = field(default_factory=dict)
    """Numbers of its end, such as its value."""
    began_at: float = 0.0
    ended_at: float | None = None
    """Time of its end in seconds since 1970; None while it is open."""
    outcome: str = ""
    failed: bool = False
    error: str = ""
    parent: str | None = None
    """Key of the run that it is a part of."""
    files: Sequence[str] = ()
    """Paths of its artefacts."""
    confusion: Confusion | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        return {
            **vars(self),
            "epochs": [vars(epoch) for epoch in self.epochs],
            "confusion": self.confusion and vars(self.confusion),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """Invert `to_json`."""
        confusion = values["confusion"]
        return cls(
            **{
                **values,
                "epochs": [Epoch(**epoch) for epoch in values["epochs"]],
                "confusion": Confusion(**confusion) if confusion else None,
            }
        )


@dataclass(frozen=True)
class Logged:
    """The part of a run that a tracker has."""

    last: int = 0
    """Its last epoch."""
    attempts: tuple[tuple[int, int], ...] = ()
    """Where its epochs are of another attempt than those before: first epoch and attempt."""
    outcome: str = ""
    """Empty while it is open."""
    most: int = 0
    """The latest epoch that it ever had; later than `last` where epochs were undone."""

    def attempt_of(self, epoch: int) -> int | None:
        """Return the attempt that reported an epoch; None if the tracker does not have the epoch."""
        found = [attempt for first, attempt in self.attempts if first <= epoch]
        return found[-1] if found and epoch <= self.last else None

    def to_json(self) -> str:
        """Return a line for `from_json`."""
        return json.dumps([self.last, self.attempts, self.outcome, self.most], separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Logged:
        """Invert `to_json`; anything else counts as nothing logged."""
        try:
            last, attempts, outcome, most = json.loads(line)
            changes = tuple((int(first), int(attempt)) for first, attempt in attempts)
            return cls(int(last), changes, str(outcome), int(most))
        except (ValueError, TypeError):
            return cls()


@dataclass(frozen=True, kw_only=True)
class News:
    """The part of a run that a tracker lacks."""

    run: Run
    kept: int
    """Last epoch that the tracker has as the run has it; later ones that it has were undone."""
    before: Logged
    epochs: Sequence[Epoch]

    @property
    def rewound(self) -> bool:
        """Whether the tracker has epochs that were undone: the run was resumed from an earlier checkpoint."""
        return self.before.last > self.kept

    @property
    def unseen(self) -> list[Epoch]:
        """Epochs later than any that the tracker has, for those that cannot replace a point."""
        return [epoch for epoch in self.epochs if epoch.epoch > self.before.most]

    @property
    def first(self) -> bool:
        return self.before == Logged()

    @property
    def after(self) -> Logged:
        """The part that the tracker has once it has written the news."""
        attempts: list[tuple[int, int]] = []
        for epoch in self.run.epochs:
            if not attempts or attempts[-1][1] != epoch.attempt:
                attempts.append((epoch.epoch, epoch.attempt))
        last = self.run.epochs[-1].epoch if self.run.epochs else 0
        return Logged(last, tuple(attempts), self.run.outcome, max(last, self.before.most))


def news_of(run: Run, before: Logged) -> News | None:
    """Return the part of a run that a tracker lacks; None if it lacks nothing."""
    kept = 0
    for epoch in run.epochs:
        if before.attempt_of(epoch.epoch) != epoch.attempt:
            break
        kept = epoch.epoch
    epochs = [epoch for epoch in run.epochs if epoch.epoch > kept]
    begun = bool(run.epochs) or run.ended_at is not None
    # Epochs that were undone stay until they are trained again, or the run ends. A run that was opened again stays as
    # it ended until it goes on.
    if not begun or (not epochs and run.outcome in ("", before.outcome)):
        return None
    return News(run=run, kept=kept, before=before, epochs=epochs)
