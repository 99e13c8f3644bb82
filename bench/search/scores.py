"""Figures of replays: epochs and simulated time to a regret, with intervals over seeds, and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from bench.search.curves import Floats
from bench.search.replay import Log

RESAMPLES = 500

Cost = Callable[["Floats", float, "Courses"], float]
"""Function of a curve of regrets, a target and the reference."""
Middle = Callable[..., Any]


@dataclass(frozen=True)
class Courses:
    """A contestant's searches of one table with one number of workers, one for each seed."""

    regrets: Floats
    """(seeds, epochs), after each epoch; a search that has ended keeps its last one."""
    seconds: Floats
    """(seeds, epochs), simulated; of a search that has ended, its end."""
    epochs: Floats
    """(seeds,), epochs trained in all."""
    started: Floats
    """(seeds,), configurations."""
    complete: Floats
    """(seeds,), configurations that were trained to the end."""


def courses(logs: Sequence[Log], epochs: int) -> Courses:
    """Return the searches as arrays of a length of `epochs`."""
    return Courses(
        np.array([_stretched(log.regrets, epochs) for log in logs]),
        np.array([_stretched(log.seconds, epochs) for log in logs]),
        np.array([min(epochs, len(log.regrets)) for log in logs], dtype=np.float64),
        np.array([log.started[-1] for log in logs], dtype=np.float64),
        np.array([log.complete[-1] for log in logs], dtype=np.float64),
    )


def _stretched(values: Sequence[float], length: int) -> Floats:
    return np.array([*values[:length], *[values[-1]] * (length - len(values))])


@dataclass(frozen=True)
class Ratio:
    """A cost relative to that of the reference's whole search; infinity: not reached."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval over seeds (bootstrap)."""

    def __str__(self) -> str:
        return f"{_times(self.value)} ({_times(self.low)}–{_times(self.high)})"


def _times(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}"


def epochs_to_match(found: Courses, reference: Courses, middle: Middle = np.median) -> Ratio:
    """Return the epochs until the middle of the regrets is that of the reference's end, relative to all of its epochs.

    `middle` is `np.median` or `np.mean`.
    """
    return _bootstrap(
        found,
        reference,
        lambda curve, target, one: _epochs(curve, target) / float(np.median(one.epochs)),
        middle,
    )


def seconds_to_match(found: Courses, reference: Courses) -> Ratio:
    """Return `epochs_to_match` in simulated time."""
    times = np.median(found.seconds, axis=0)

    def cost(curve: Floats, target: float, one: Courses) -> float:
        index = _epochs(curve, target)
        return math.inf if math.isinf(index) else float(times[int(index) - 1] / np.median(one.seconds[:, -1]))

    return _bootstrap(found, reference, cost, np.median)


def _bootstrap(found: Courses, reference: Courses, cost: Cost, middle: Middle) -> Ratio:
    rng = np.random.default_rng(0)
    seeds = np.arange(len(reference.regrets))

    def of(rows: npt.NDArray[np.intp]) -> float:
        target = float(middle(reference.regrets[rows, -1]))
        return float(cost(middle(found.regrets[rows], axis=0), target, reference))

    resampled = [of(rng.choice(seeds, len(seeds))) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975], method="nearest")
    return Ratio(of(seeds), float(low), float(high))


def _epochs(curve: Floats, target: float) -> float:
    """Return the epochs after which a median regret is at most the target, infinity if it never is."""
    reached = np.flatnonzero(curve <= target + 1e-12)
    return float(reached[0] + 1) if len(reached) else math.inf


def mean_ranks(regrets: Mapping[str, Floats]) -> dict[str, float]:
    """Return each contestant's mean rank over seeds, 1 for the lowest regret; equal ones share their ranks."""
    ranks = rankdata(np.array(list(regrets.values())), axis=0)
    return dict(zip(regrets, ranks.mean(axis=1).tolist(), strict=True))
