"""Runs that a race of `hpo retrain --top` saves, and changed winners: `python -m bench.search.racing`.

Candidates have true values at or below that of the best, and noise of seeds around them, in units of its standard
deviation. A race that drops candidates is compared with all seeds of all candidates; the last candidate is the default
configuration, which is never dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.report import Report, Row
from hpo.retrain.racing import RISK, standing_of

SIZES = ((3, 3), (4, 5), (6, 5), (11, 5), (4, 10), (11, 10))
"""Numbers of candidates and seeds."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Distribution of true values and of noise."""

    gap: float = 1.0
    """Mean distance of true values from the best; 0: all are equal."""
    unequal: float = 0.3
    """Standard deviation of the logarithm of the candidates' noise."""
    tails: bool = False
    """Whether noise has heavy tails: Student's t with 3 degrees of freedom."""
    common: float = 0.0
    """Standard deviation of noise that all candidates of a seed share."""
    step: float = 0.0
    """Distance of possible values, as of shares of few examples; 0: any are."""
    collapses: float = 0.0
    """Share of runs whose value is 10 worse."""

    def values(self, rng: np.random.Generator, candidates: int, seeds: int) -> NDArray[np.float64]:
        """Return values of shape (candidates, seeds), of which larger ones are better."""
        shape = (candidates, seeds)
        true = -np.sort(rng.exponential(self.gap, candidates)) if self.gap else np.zeros(candidates)
        noise = rng.standard_t(3, shape) / np.sqrt(3) if self.tails else rng.normal(size=shape)
        found = true[:, None] + np.exp(rng.normal(0, self.unequal, candidates))[:, None] * noise
        found = found + self.common * rng.normal(size=(1, seeds)) - 10 * (rng.random(shape) < self.collapses)
        return np.round(found / self.step) * self.step if self.step else found


WORLDS: Mapping[str, World] = {
    "all equal": World(gap=0.0, unequal=0.0),
    "close": World(),
    "apart": World(gap=4.0, unequal=0.5),
    "heavy tails, unequal noise": World(gap=2.0, unequal=0.7, tails=True),
    "few possible values": World(step=0.7),
    "noise in common": World(gap=2.0, common=1.0),
    "runs that collapse": World(gap=2.0, collapses=0.1),
}


def measure(world: World, candidates: int, seeds: int, rounds: int) -> Row:
    rng = np.random.default_rng(0)
    same, saved, lost = 0, 0.0, 0.0
    for _ in range(rounds):
        values = world.values(rng, candidates, seeds)
        means = values.mean(axis=1)
        race = standing_of(values.tolist(), candidates - 1, maximize=True)
        left = [index for index in range(candidates) if index not in race.drops]
        winner, raced = int(np.argmax(means)), max(left, key=lambda index: (means[index], -index))
        same += winner == raced
        lost += float(means[winner] - means[raced])
        saved += sum(seeds - drop.seeds for drop in race.drops.values()) / (candidates * seeds)
    return {"same winner": same / rounds, "runs saved": saved / rounds, "mean lost": lost / rounds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args(arguments).rounds
    report = Report("racing", "The race among candidates of a retrain", quick=rounds < 100)
    rows = [
        {"world": name, "candidates": candidates, "seeds": seeds, **measure(world, candidates, seeds, rounds)}
        for name, world in WORLDS.items()
        for candidates, seeds in SIZES
    ]
    report.table(f"Races against all seeds, {rounds:,} each", rows)
    report.note(
        f"A race may end with another winner in {100 * RISK:.0f} % of cases; lowest share of the same winner:"
        f" {min(row['same winner'] for row in rows):.3f}.",
        "`mean lost`: mean over seeds of the true winner minus that of the race, in standard deviations of seeds.",
    )
    report.write()


if __name__ == "__main__":
    main()
