"""Replay searches over tables of learning curves: `python -m bench.search [--rounds SEEDS] [--quick]`.

Simulated time with 1, 4, 16 and 64 workers; nothing is trained. Results: `bench/results/search.{json,md}`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product

import numpy as np

from bench.options import parser
from bench.report import Report, Row
from bench.search.contestants import CONTESTANTS, REFERENCE, TRIALS
from bench.search.curves import load_table, table_names
from bench.search.landscape import Landscape, Rows, Surrogate
from bench.search.replay import replay
from bench.search.scores import Courses, courses, epochs_to_match, mean_ranks, seconds_to_match

WORKERS = (1, 4, 16, 64)
TRAININGS = 40
"""Epochs of each search, in trainings of all epochs: about what the reference uses."""
SEEDS = 50
SHOWN = (5, 10, 20, 40)
"""Trainings after which regrets are shown."""


Job = tuple[str, str, str, int, int, int | None]
"""Arguments of `search`."""


@cache
def _surrogate(name: str) -> Surrogate:
    return Surrogate(load_table(name))


def search(table: str, mode: str, contestant: str, workers: int, seeds: int, most: int | None) -> Courses:
    """Replay one contestant from each seed."""
    logs = []
    budget = TRAININGS * load_table(table).epochs
    # The reference is a search of a number of trials, whatever epochs it needs.
    most = TRIALS if contestant == REFERENCE else most
    for seed in range(seeds):
        landscape: Landscape = Rows(load_table(table)) if mode == "rows" else _surrogate(table)
        built = CONTESTANTS[contestant](landscape.table, seed, most)
        epochs = TRIALS * landscape.table.epochs if most else budget
        logs.append(replay(built, landscape, workers=workers, epochs=epochs, seed=seed))
    return courses(logs, TRIALS * load_table(table).epochs)


def _jobs(arguments: Sequence[Job], processes: int) -> Iterator[Courses]:
    if processes == 1:
        yield from (search(*job) for job in arguments)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(search, *zip(*arguments, strict=True))


def rows_of(found: dict[str, Courses], epochs: int) -> list[Row]:
    """Return a row for each contestant."""
    reference = found[REFERENCE]
    ends = {name: one.regrets[:, TRAININGS * epochs - 1] for name, one in found.items()}
    ranks = mean_ranks(ends)
    return [
        {
            "contestant": name,
            "epochs to match": str(epochs_to_match(one, reference)),
            "time to match": str(seconds_to_match(one, reference)),
            **{
                f"regret after {shown}": f"{100 * np.median(one.regrets[:, shown * epochs - 1]):.2f}"
                for shown in SHOWN
            },
            "rank": f"{ranks[name]:.1f}",
            "configurations": int(np.median(one.started)),
            "complete": int(np.median(one.complete)),
        }
        for name, one in found.items()
    ]


def main() -> None:
    arguments = parser(__doc__, rounds=SEEDS)
    arguments.add_argument("--tables", default=",".join(table_names()), help="names, separated by commas")
    arguments.add_argument("--workers", default=",".join(map(str, WORKERS)))
    arguments.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, separated by commas")
    arguments.add_argument("--mode", choices=["surrogate", "rows"], default="surrogate")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = arguments.parse_args()
    seeds = 3 if options.quick else options.rounds
    tables = options.tables.split(",")[: 1 if options.quick else None]
    workers = [int(text) for text in options.workers.split(",")][: 1 if options.quick else None]
    names = list(dict.fromkeys([REFERENCE, *options.only.split(",")]))
    suffix = "" if options.mode == "surrogate" else "-rows"
    report = Report(f"search{suffix}", "Searches replayed over learning curves", quick=options.quick)
    for table, count in product(tables, workers):
        jobs: list[Job] = [(table, options.mode, name, count, seeds, None) for name in names]
        found = dict(zip(names, _jobs(jobs, options.processes), strict=True))
        facts = load_table(table)
        partial = f", partial table of {len(facts.values)}" if facts.partial else ""
        report.table(f"{table}, {count} workers{partial}", rows_of(found, facts.epochs))
        report.keep()
    report.write()


if __name__ == "__main__":
    main()
