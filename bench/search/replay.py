"""A search in simulated time: W workers train the trials of a contestant, at the speed that the table recorded."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bench.search.landscape import Curve, Landscape

Config = Mapping[str, Any]


class Contestant(Protocol):
    """A search's rule: which trial a free worker trains, and after which epoch the worker is free again."""

    def next(self) -> int | None:
        """Return the number of a new trial, the highest so far plus one, or of a paused one.

        None: wait until another trial reports, or the search has ended where none is running.
        """

    def propose(self) -> Config:
        """Return the configuration of the new trial."""

    def start(self, number: int, params: Config) -> None:
        """Note the configuration that is trained, which may differ from the proposed one."""

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a value and return whether the trial goes on; it has ended after its last epoch in any case."""


@dataclass
class Log:
    """The course of a search; all lists have one entry for each epoch trained, in the order of time."""

    seconds: list[float] = field(default_factory=list)
    regrets: list[float] = field(default_factory=list)
    """Regret of the configuration that a user would pick at that time."""
    started: list[int] = field(default_factory=list)
    """Configurations begun so far."""
    complete: list[int] = field(default_factory=list)
    """Configurations trained to the end so far."""

    def epochs_to(self, regret: float) -> float:
        """Return the epochs after which the regret is at most this; infinity if it never is."""
        return next((index + 1.0 for index, found in enumerate(self.regrets) if found <= regret), math.inf)


@dataclass
class _Pick:
    """The configuration that a user picks: the best complete one, and before that, the best of the longest trained."""

    sign: float
    best: tuple[bool, int, float] = (False, 0, -math.inf)
    regret: float = math.inf

    def offer(self, epoch: int, last: int, value: float, regret: float) -> None:
        rank = (epoch == last, epoch, self.sign * value)
        if rank > self.best:
            self.best, self.regret = rank, regret


def replay(contestant: Contestant, landscape: Landscape, *, workers: int, epochs: int, seed: int) -> Log:
    """Run a search until it ends or has trained this many epochs."""
    rng = np.random.default_rng([seed, 20])
    last = landscape.table.epochs
    log, pick = Log(), _Pick(1.0 if landscape.table.maximize else -1.0)
    curves: list[Curve] = []
    done: list[int] = []
    queue: list[tuple[float, int, int]] = []
    """Time at which a worker ends an epoch, a tie-breaker, and the trial."""
    now, ticket, finished = 0.0, 0, 0
    while True:
        while len(queue) < workers and (number := contestant.next()) is not None:
            if number == len(curves):
                curve = landscape.curve(contestant.propose(), rng)
                contestant.start(number, curve.params)
                curves.append(curve)
                done.append(0)
            ticket += 1
            heapq.heappush(queue, (now + landscape.start_seconds + curves[number].seconds, ticket, number))
        if not queue or len(log.seconds) >= epochs:
            return log
        now, _, number = heapq.heappop(queue)
        curve = curves[number]
        done[number] += 1
        value = float(curve.values[done[number] - 1])
        goes_on = contestant.report(number, done[number], value) and done[number] < last
        finished += done[number] == last
        pick.offer(done[number], last, value, curve.regret)
        log.seconds.append(now)
        log.regrets.append(pick.regret)
        log.started.append(len(curves))
        log.complete.append(finished)
        if goes_on:
            ticket += 1
            heapq.heappush(queue, (now + curve.seconds, ticket, number))
