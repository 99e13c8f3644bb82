"""KerasTuner's Hyperband: brackets of rounds, each round the best of the one before it, with random configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bench.search.proposing import Trials
from bench.search.replay import Config

FACTOR = 3


@dataclass
class _Bracket:
    number: int
    sizes: list[int]
    epochs: list[int]
    """Epochs after which each round ends."""
    rounds: list[list[int]] = field(default_factory=list)
    """Numbers of the trials of each round."""

    @property
    def complete(self) -> bool:
        return len(self.rounds[-1]) == self.sizes[-1]


class KerasTunerHyperband:
    """The rules of `keras_tuner.oracles.HyperbandOracle` (1.4.8): `populate_space`, with as many iterations as asked.

    A trial of a later round goes on from the weights of the earlier one, as here.
    """

    def __init__(self, trials: Trials, *, last: int, maximize: bool) -> None:
        self._trials, self._last = trials, last
        self._sign = 1.0 if maximize else -1.0
        self._count = math.floor(math.log(last, FACTOR) + 1e-9) + 1
        self._brackets: list[_Bracket] = []
        self._next_bracket = self._count - 1
        self._ends: list[int] = []
        """Epoch at which each trial pauses."""
        self._paused: dict[int, float] = {}
        """Values of trials that have ended their round."""
        self._home: _Bracket | None = None

    def next(self) -> int | None:
        self._brackets = [bracket for bracket in self._brackets if not bracket.complete]
        for bracket in self._brackets:
            if len(bracket.rounds[0]) < bracket.sizes[0]:
                self._home = bracket
                return len(self._ends)
            for index in range(1, len(bracket.sizes)):
                found = self._promotable(bracket, index)
                if found is not None:
                    del self._paused[found]
                    bracket.rounds[index].append(found)
                    self._ends[found] = bracket.epochs[index]
                    return found
        self._home = self._new_bracket()
        return len(self._ends)

    def _promotable(self, bracket: _Bracket, index: int) -> int | None:
        """Return the best trial of the last round, if more have ended than the round will lose."""
        past, taken = bracket.rounds[index - 1], set(bracket.rounds[index])
        ready = [number for number in past if number not in taken and number in self._paused]
        if len(ready) <= bracket.sizes[index - 1] - bracket.sizes[index]:
            return None
        return max(ready, key=lambda number: self._paused[number])

    def _new_bracket(self) -> _Bracket:
        number = self._next_bracket
        self._next_bracket = (number or self._count) - 1
        end = math.ceil(1 + math.log(self._last, FACTOR)) / (number + 1)
        rounds = range(number + 1)
        bracket = _Bracket(
            number,
            [math.ceil(end * FACTOR ** (number - index)) for index in rounds],
            [math.ceil(self._last / FACTOR ** (number - index)) for index in rounds],
            [[] for _ in rounds],
        )
        self._brackets.append(bracket)
        return bracket

    def propose(self) -> Config:
        return self._trials.propose()

    def start(self, number: int, params: Config) -> None:
        assert self._home is not None
        self._home.rounds[0].append(number)
        self._ends.append(self._home.epochs[0])
        self._trials.start(params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        self._trials.report(number, epoch, value)
        if epoch == self._last:
            self._trials.end(number, "complete", value)
        if epoch == self._ends[number]:
            self._paused[number] = self._sign * value
        return epoch < self._ends[number]
