"""The rule of freeze-thaw: which trials pause at a rung, and which paused trial continues next.

Successive halving with promotion (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020): a trial
that reaches a rung goes on while it is among the best of those that have reached it; otherwise it pauses, and goes on
later if it is among the best of more. Scores are smaller for better trials; one that is not finite never goes on.
The rule knows neither databases nor processes: agents read `Rung`s from the database, simulations from a `Ladder`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

NAME = "freeze-thaw"
"""Value of `--pruner`."""


@dataclass(frozen=True)
class Level:
    """A rung of trials of any number of epochs."""

    part: Fraction
    """Part of a trial's epochs after which trials are compared, rounded up to a whole epoch."""
    one_in: int
    """Trials of which one goes on."""


LEVELS = (Level(Fraction(1, 3), 3),)
"""The default rungs, chosen by `bench/search`.

Earlier rungs save more epochs on some objectives, but on others the best trials look bad early.
"""


PARTS = 8
"""Steps of a trial after which a model of its curve decides, chosen by `bench/search`."""


def steps_of(epochs: int, parts: int = PARTS) -> tuple[Level, ...]:
    """Return the rungs at which a model decides; how many trials go on is not fixed."""
    step = max(1, round(epochs / parts))
    return tuple(Level(Fraction(epoch, epochs), 1) for epoch in range(step, epochs, step))


def levels_of(epochs: int, rungs: Iterable[Sequence[int]]) -> tuple[Level, ...]:
    """Return the levels of rungs as a study stores them: each an epoch, and the trials of which one goes on."""
    return tuple(Level(Fraction(epoch, epochs), one_in) for epoch, one_in in rungs)


@dataclass(frozen=True, kw_only=True)
class Paused:
    """The best paused trial of a rung."""

    trial: int
    """Id of the trial; of two with one score, the smaller id is better."""
    rank: int
    """Trials, paused or not, that reached the rung with a better score."""
    score: float


@dataclass(frozen=True, kw_only=True)
class Rung:
    """The trials that have reached a rung."""

    epoch: int
    reached: int
    """Number of trials that have reached it, in whatever state they are now."""
    best_paused: Paused | None = None


@dataclass(frozen=True, kw_only=True)
class FreezeThaw:
    """The rule for trials of a number of epochs."""

    epochs: int
    levels: tuple[Level, ...] = LEVELS
    shown_from: Fraction = Fraction(0)
    """Part of the epochs from which on a paused trial is shown to the sampler as pruned; before, as one that runs."""
    modelled: bool = False
    """Whether a model of the curves decides which trials pause and go on, in place of their ranks."""
    finalists: int = 1
    """Complete trials that a study gets at least: the best paused ones continue at its end until it has them."""

    @cached_property
    def one_in(self) -> Mapping[int, int]:
        """Trials of which one goes on, by the epoch of each rung, in order; trials of one epoch have none."""
        last = max((level.part for level in self.levels), default=Fraction(0))
        return {
            epoch: level.one_in
            for level in sorted(self.levels, key=lambda one: one.part)
            # Of levels before the first epoch, only the last one counts.
            if (level.part * self.epochs >= 1 or level.part == last)
            and (epoch := math.ceil(level.part * self.epochs)) < self.epochs
        }

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are judged, in order."""
        return tuple(self.one_in)

    def shows(self, epoch: int) -> bool:
        """Whether a trial that is paused at the rung of an epoch is shown to the sampler as pruned."""
        return epoch >= self.shown_from * self.epochs

    def continues(self, epoch: int, *, rank: int, reached: int, score: float) -> bool:
        """Whether a trial passes a rung: `reached` trials have reached it, `rank` of them with a better score."""
        return math.isfinite(score) and rank < self.quota(epoch, reached)

    def quota(self, epoch: int, reached: int) -> int:
        """Return the number of best trials that go on of those that have reached a rung."""
        return reached // self.one_in[epoch]

    def thawed(self, rungs: Sequence[Rung]) -> Rung | None:
        """Return the rung whose best paused trial goes on next: the highest one that has one among its best."""
        for rung in sorted(rungs, key=lambda one: one.epoch, reverse=True):
            best = rung.best_paused
            if best is not None and self.continues(
                rung.epoch, rank=best.rank, reached=rung.reached, score=best.score
            ):
                return rung
        return None

    def finalist(self, rungs: Sequence[Rung], complete: int) -> int | None:
        """Return the paused trial that goes on where nothing trains and no configuration is left, if one does.

        All that are still paused then end as pruned.
        """
        if complete >= self.finalists:
            return None
        for rung in sorted(rungs, key=lambda one: one.epoch, reverse=True):
            if rung.best_paused is not None and math.isfinite(rung.best_paused.score):
                return rung.best_paused.trial
        return None


MODELLED_FINALISTS = 3
"""Trials that a study whose model decides trains to the end at least."""


def rule_for(epochs: int, rungs: Sequence[Sequence[int]], *, modelled: bool) -> FreezeThaw:
    """Return the rule of a study with these rungs, as it stores them; without any, with the default ones."""
    levels = levels_of(epochs, rungs) if rungs else steps_of(epochs) if modelled else LEVELS
    if not modelled:
        return FreezeThaw(epochs=epochs, levels=levels)
    return FreezeThaw(
        epochs=epochs,
        levels=levels,
        modelled=True,
        # Another sampler that the user has chosen must not learn from early values.
        shown_from=LEVELS[0].part,
        finalists=MODELLED_FINALISTS,
    )


class Ladder:
    """The rungs of one study in memory, for simulations and tests."""

    def __init__(self, rule: FreezeThaw) -> None:
        self.rule = rule
        self._reached: dict[int, list[tuple[float, int]]] = {epoch: [] for epoch in rule.rungs}
        self._trials: dict[int, set[int]] = {epoch: set() for epoch in rule.rungs}
        self._paused: dict[int, list[tuple[float, int]]] = {epoch: [] for epoch in rule.rungs}

    def report(self, trial: int, epoch: int, score: float) -> bool:
        """Note the score of a trial after an epoch; return whether it goes on, else it is paused."""
        return self.judge(trial, {epoch: score})

    def judge(self, trial: int, scores: Mapping[int, float]) -> bool:
        """Note the scores of a trial by epoch; return whether it passes the last new rung among them."""
        new = [
            epoch for epoch in sorted(scores) if epoch in self._reached and trial not in self._trials[epoch]
        ]
        for epoch in new:
            self._trials[epoch].add(trial)
            insort(self._reached[epoch], (_finite_or_last(scores[epoch]), trial))
        if not new:
            return True
        epoch = new[-1]
        standing = (_finite_or_last(scores[epoch]), trial)
        rank, reached = bisect_left(self._reached[epoch], standing), len(self._reached[epoch])
        if self.rule.continues(epoch, rank=rank, reached=reached, score=standing[0]):
            return True
        insort(self._paused[epoch], standing)
        return False

    def thaw(self) -> int | None:
        """Take the paused trial that goes on next."""
        rung = self.rule.thawed(self.rungs())
        return self._take(None if rung is None or rung.best_paused is None else rung.best_paused.trial)

    def finish(self, complete: int) -> int | None:
        """Take the paused trial that goes on although nothing trains and no configuration is left."""
        return self._take(self.rule.finalist(self.rungs(), complete))

    def rungs(self) -> list[Rung]:
        return [
            Rung(epoch=epoch, reached=len(reached), best_paused=self._best_paused(epoch))
            for epoch, reached in self._reached.items()
        ]

    def paused(self) -> list[int]:
        """Return the paused trials in order."""
        return sorted(trial for paused in self._paused.values() for _, trial in paused)

    def _best_paused(self, epoch: int) -> Paused | None:
        if not self._paused[epoch]:
            return None
        score, trial = self._paused[epoch][0]
        return Paused(trial=trial, rank=bisect_left(self._reached[epoch], (score, trial)), score=score)

    def _take(self, trial: int | None) -> int | None:
        for epoch, paused in self._paused.items() if trial is not None else ():
            self._paused[epoch] = [one for one in paused if one[1] != trial]
        return trial


def _finite_or_last(score: float) -> float:
    return score if math.isfinite(score) else math.inf
