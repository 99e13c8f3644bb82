"""Epochs that `--stop-when-flat` saves, and the value that it loses: `python -m bench.search.flatness`.

Searches of many trials are replayed over tables of learning curves; then each rule says where it would have ended
them. Results: `bench/results/flatness.{json,md}`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from bench.options import parser
from bench.report import Report, Row
from bench.search.contestants import CONTESTANTS, REFERENCE
from bench.search.curves import load_table, table_names
from bench.search.landscape import Curve, Surrogate
from bench.search.replay import Config, Contestant, replay
from hpo.search.plateau import REPEATS, plateau

TRIALS = 150
WORKERS = 4
SEEDS = 40


@dataclass(frozen=True)
class End:
    """The end of a trial."""

    value: float
    """Final value, smaller is better; infinity if it was pruned."""
    epochs: int
    """Epochs of all trials so far."""
    repeats: Sequence[float]
    """Values with other seeds."""


@dataclass
class Recorded:
    """A search that notes how its trials end."""

    search: Contestant
    landscape: Surrogate
    rng: np.random.Generator
    params: list[Config] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    epochs: int = 0

    def next(self) -> int | None:
        return self.search.next()

    def propose(self) -> Config:
        return self.search.propose()

    def start(self, number: int, params: Config) -> None:
        self.params.append(params)
        self.search.start(number, params)

    def report(self, number: int, epoch: int, value: float) -> bool:
        self.epochs += 1
        table = self.landscape.table
        sign = -1.0 if table.maximize else 1.0
        goes_on = self.search.report(number, epoch, value)
        if epoch == table.epochs:
            repeats = [sign * float(self._curve(number).values[-1]) for _ in range(REPEATS)]
            self.ends.append(End(sign * value, self.epochs, repeats))
        elif not goes_on:
            self.ends.append(End(math.inf, self.epochs, ()))
        return goes_on

    def _curve(self, number: int) -> Curve:
        return self.landscape.curve(self.params[number], self.rng)


@dataclass(frozen=True)
class Search:
    """A replayed search."""

    ends: Sequence[End]
    regrets: Sequence[float]
    """Regret of the configuration that a user would pick, after each epoch."""
    last: int
    """Epochs of a complete trial."""


@dataclass(frozen=True)
class Stop:
    """The place where a rule ends a search."""

    trials: int
    repeats: int
    reached: bool


Rule = Callable[[Sequence[End]], Stop]


def flat(ends: Sequence[End]) -> Stop:
    """Apply the rule of `--stop-when-flat`."""
    values = [end.value for end in ends]
    measured: int | None = None
    repeats = 0
    for trials in range(1, len(ends) + 1):
        found = plateau(values[:trials])
        best = int(np.argmin(values[:trials]))
        known = measured is not None and values[measured] - values[best] <= _deviation(ends[measured])
        if not known and found.is_near:
            measured, known = best, True
            repeats += REPEATS
        if measured is not None and known and found.is_flat(_deviation(ends[measured])):
            return Stop(trials, repeats, reached=True)
    return Stop(len(ends), repeats, reached=False)


def _deviation(end: End) -> float:
    return statistics.stdev(end.repeats)


def patience(ends: Sequence[End], *, most: int) -> Stop:
    """Apply the rule of `--patience`."""
    values = [end.value for end in ends]
    for trials in range(1, len(ends) + 1):
        if math.isfinite(min(values[:trials])) and plateau(values[:trials]).since_best >= most:
            return Stop(trials, 0, reached=True)
    return Stop(len(ends), 0, reached=False)


RULES: Mapping[str, Rule] = {
    "--stop-when-flat": flat,
    **{f"--patience {most}": partial(patience, most=most) for most in (10, 20, 40)},
}


@cache
def _surrogate(name: str) -> Surrogate:
    return Surrogate(load_table(name))


def search(table: str, seed: int, trials: int) -> Search:
    """Replay a search of so many trials."""
    landscape = _surrogate(table)
    recorded = Recorded(
        CONTESTANTS[REFERENCE](landscape.table, seed, trials), landscape, np.random.default_rng([seed, 4])
    )
    last = landscape.table.epochs
    log = replay(recorded, landscape, workers=WORKERS, epochs=trials * last, seed=seed)
    return Search(recorded.ends, log.regrets, last)


def row_of(name: str, searches: Sequence[Search]) -> Row:
    """Return the row of a rule."""
    stops = [RULES[name](one.ends) for one in searches]
    at = [one.ends[stop.trials - 1].epochs for one, stop in zip(searches, stops, strict=True)]
    shares = [
        (epochs + stop.repeats * one.last) / one.ends[-1].epochs
        for one, stop, epochs in zip(searches, stops, at, strict=True)
    ]
    lost = [
        100 * (one.regrets[epochs - 1] - one.regrets[-1]) for one, epochs in zip(searches, at, strict=True)
    ]
    return {
        "rule": name,
        "ended early": f"{100 * statistics.mean(stop.reached for stop in stops):.0f} %",
        "trials": int(np.median([stop.trials + stop.repeats for stop in stops])),
        "part of the epochs": f"{statistics.mean(shares):.2f}",
        "lost, mean": f"{statistics.mean(lost):.2f}",
        "median": f"{statistics.median(lost):.2f}",
        "90 %": f"{np.quantile(lost, 0.9):.2f}",
    }


def noise(searches: Sequence[Search]) -> float:
    """Return the standard deviation over seeds of the best configurations, in points."""
    best = [min(one.ends, key=lambda end: end.value) for one in searches]
    return 100 * math.sqrt(statistics.mean(statistics.variance(end.repeats) for end in best))


def _searches(table: str, seeds: int, trials: int, processes: int) -> Iterator[Search]:
    arguments: list[Any] = [[table] * seeds, range(seeds), [trials] * seeds]
    if processes == 1:
        yield from map(search, *arguments)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(search, *arguments)


def main() -> None:
    arguments = parser(__doc__, rounds=SEEDS)
    arguments.add_argument("--processes", type=int, default=1)
    options = arguments.parse_args()
    seeds, trials = (2, 40) if options.quick else (options.rounds, TRIALS)
    report = Report("flatness", "Searches that stop once they are flat", quick=options.quick)
    for table in table_names()[: 1 if options.quick else None]:
        found = list(_searches(table, seeds, trials, options.processes))
        title = f"{table}: {REFERENCE}, seeds differ by ±{noise(found):.2f} points"
        report.table(title, [row_of(name, found) for name in RULES])
        report.keep()
    report.note(
        f"{seeds} searches of {trials} trials, {WORKERS} workers, from the known good configuration on. Epochs are"
        " relative to those of all trials; repeats are included, running trials are not trained further.",
        "Lost: regret of the configuration that a user would pick at the end, minus that after all trials, in points"
        " of the metric.",
    )
    report.write()


if __name__ == "__main__":
    main()
