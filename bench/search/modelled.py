"""Freeze-thaw by the model of the service (`hpo.search.curve_model`), over the trials of a replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.search.curves import CurveTable
from bench.search.proposing import Trials
from bench.search.replay import Config
from hpo.search.curve_model.curves import Curve, State
from hpo.search.curve_model.gaussian_process import Hyperparameters
from hpo.search.curve_model.scheduler import Scheduler

GROWTH = 1.1
"""Growth of the observations after which the model is fitted again; the service fits it for each decision."""


class _Cached(Scheduler):
    """A scheduler whose model is fitted now and then, because replays make thousands of decisions."""

    observed = 0
    fitted: Hyperparameters | None = None

    def scales(self, curves: Sequence[Curve]) -> Hyperparameters | None:  # noqa: ARG002
        return self.fitted


class Modelled:
    """A search that pauses trials after steps and resumes those that the model prefers."""

    def __init__(
        self,
        table: CurveTable,
        seed: int,
        most: int | None,
        *,
        steps: Sequence[int],
        trials: Trials | None = None,
        startup: int = 10,
        finalists: int = 3,
        margin: float = 0.5,
        hopeless: float = 0.05,
    ) -> None:
        """`steps`: epochs after which trials are judged; `trials` proposes in place of the model."""
        self._table, self._seed, self._most = table, seed, most
        self._steps, self._trials, self._finalists = frozenset(steps), trials, finalists
        self._sign = -1.0 if table.maximize else 1.0
        self._scheduler = _Cached(
            space=table.space,
            epochs=table.epochs,
            seed=seed,
            startup=startup,
            finalists=finalists,
            margin=margin,
            hopeless=hopeless,
        )
        self._params: list[Config] = []
        self._scores: list[dict[int, float]] = []
        self._running: set[int] = set()
        self._observed = self._fitted_at = 0

    @property
    def _begins(self) -> bool:
        return self._most is None or len(self._params) < self._most

    @property
    def _complete(self) -> int:
        return sum(self._table.epochs in scores for scores in self._scores)

    def next(self) -> int | None:
        found = self._scheduler.ranking(self._curves(), len(self._params), begins=self._begins)
        chosen = found[0] if found else None
        if not found:
            paused = [curve for curve in self._curves() if curve.state == "paused"]
            if self._running or not paused or self._complete >= self._finalists:
                return None
            chosen = min(paused, key=lambda one: (-one.epoch, one.score, one.trial)).trial
        number = len(self._params) if chosen is None else chosen
        self._running.add(number)
        return number

    def propose(self) -> Config:
        number = len(self._params)
        if self._trials is not None:
            return self._trials.propose()
        if number == 0 and self._table.first:
            return self._table.first
        rng = np.random.default_rng([self._seed, number])
        return self._scheduler.propose(self._curves(), number, rng)

    def start(self, number: int, params: Config) -> None:  # noqa: ARG002 - numbers are consecutive
        self._params.append(params)
        self._scores.append({})
        if self._trials is not None:
            self._trials.start(params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        if self._trials is not None:
            self._trials.report(number, epoch, value)
        if epoch == self._table.epochs:
            self._note(number, epoch, value)
            self._running.discard(number)
            if self._trials is not None:
                self._trials.end(number, "complete", value)
            return False
        if epoch not in self._steps:
            return True
        self._note(number, epoch, value)
        curves = self._curves()
        own = next(curve for curve in curves if curve.trial == number)
        if self._scheduler.continues(curves, own, len(self._params), begins=self._begins):
            return True
        self._running.discard(number)
        return False

    def _note(self, number: int, epoch: int, value: float) -> None:
        self._scores[number][epoch] = self._sign * value
        self._observed += 1

    def _curves(self) -> list[Curve]:
        curves = [self._curve(number) for number in range(len(self._params)) if self._scores[number]]
        if self._observed >= GROWTH * self._fitted_at and len(curves) >= 5:
            self._fitted_at = self._observed
            self._scheduler.fitted = None
            self._scheduler.fitted = self._scheduler._model(curves)[0].by
        return curves

    def _curve(self, number: int) -> Curve:
        ended = self._table.epochs in self._scores[number]
        state: State = "running" if number in self._running else "ended" if ended else "paused"
        return Curve(
            trial=number,
            ordinal=number,
            params=self._params[number],
            scores=self._scores[number],
            state=state,
        )
