"""Replay searches over tables of learning curves: `python -m bench.search [--rounds SEEDS] [--quick]`.

Simulated time with 1, 4, 16 and 64 workers; nothing is trained. Results: `bench/results/search.{json,md}`, and
pictures by `python -m bench.search.chart`. All contestants take hours: a run that was interrupted goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product

import numpy as np

from bench.options import parser
from bench.report import Report, Row
from bench.search.cached import Job, cached
from bench.search.contestants import CONTESTANTS, REFERENCE, TRIALS, VARIANTS
from bench.search.curves import Floats, load_table, table_names
from bench.search.landscape import Landscape, Rows, Surrogate
from bench.search.replay import replay
from bench.search.scores import Courses, courses, epochs_to_match, mean_ranks, seconds_to_match

WORKERS = (1, 4, 16, 64)
TRAININGS = 40
"""Epochs of each search, in trainings of all epochs: about what the reference uses."""
SEEDS = 50
SHOWN = (5, 10, 20, 40)
"""Trainings after which regrets are shown."""


LIMITED = (REFERENCE, "tpe", "tpe+asha", "tpe+freeze-thaw", "freeze-thaw model")
"""Contestants that are also compared with the same number of configurations."""


@cache
def _surrogate(name: str) -> Surrogate:
    return Surrogate(load_table(name))


def search(job: Job) -> Courses:
    """Replay one contestant from each seed."""
    table, mode, contestant, workers, seeds, most = job
    logs = []
    budget = TRAININGS * load_table(table).epochs
    # The reference is a search of a number of trials, whatever epochs it needs.
    most = TRIALS if contestant == REFERENCE else most
    for seed in range(seeds):
        landscape: Landscape = Rows(load_table(table)) if mode == "rows" else _surrogate(table)
        built = (CONTESTANTS | VARIANTS)[contestant](landscape.table, seed, most)
        epochs = TRIALS * landscape.table.epochs if most else budget
        logs.append(replay(built, landscape, workers=workers, epochs=epochs, seed=seed))
    return courses(logs, TRIALS * load_table(table).epochs)


def _jobs(jobs: Sequence[Job], processes: int) -> Iterator[Courses]:
    if processes == 1:
        yield from (cached(search, job) for job in jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(cached, search), jobs)


def rows_of(found: Mapping[str, Courses], epochs: int) -> list[Row]:
    """Return a row for each contestant."""
    reference = found[REFERENCE]
    ranks = mean_ranks({name: one.regrets[:, TRAININGS * epochs - 1] for name, one in found.items()})
    return [
        {
            "contestant": name,
            "epochs to match": str(epochs_to_match(one, reference, np.median)),
            "by the mean": str(epochs_to_match(one, reference, np.mean)),
            "time to match": str(seconds_to_match(one, reference)),
            **{f"after {shown}": _points(one.regrets[:, shown * epochs - 1]) for shown in SHOWN},
            "rank": f"{ranks[name]:.1f}",
            "configurations": int(np.median(one.started)),
            "complete": int(np.median(one.complete)),
        }
        for name, one in found.items()
    ]


def limited_rows(found: Mapping[str, Courses], epochs: int) -> list[Row]:
    """Return a row for each contestant with the same number of configurations."""
    reference = found[REFERENCE]
    return [
        {
            "contestant": name,
            "epochs to match": str(epochs_to_match(one, reference, np.median)),
            "by the mean": str(epochs_to_match(one, reference, np.mean)),
            "time to match": str(seconds_to_match(one, reference)),
            "trainings": f"{np.median(one.epochs) / epochs:.1f}",
            "simulated minutes": f"{np.median(one.seconds[:, -1]) / 60:.1f}",
            "regret at the end": _points(one.regrets[:, -1]),
            "mean": f"{100 * one.regrets[:, -1].mean():.2f}",
            "complete": int(np.median(one.complete)),
        }
        for name, one in found.items()
    ]


def course_of(found: Courses, epochs: int) -> dict[str, list[float]]:
    """Return medians over seeds for the chart: regret and simulated minutes after each training of all epochs."""
    shown = slice(epochs - 1, TRAININGS * epochs, epochs)
    return {
        "regrets": np.median(found.regrets, axis=0)[shown].round(5).tolist(),
        "minutes": (np.median(found.seconds, axis=0)[shown] / 60).round(2).tolist(),
    }


def _points(regrets: Floats) -> str:
    return f"{100 * np.median(regrets):.2f}"


def _run(names: list[str], table: str, mode: str, workers: int, seeds: int, most: int | None) -> list[Job]:
    return [(table, mode, name, workers, seeds, most) for name in names]


NOTES = (
    "Epochs (or simulated time) to match: until the median (or mean) regret over seeds is at most that of the "
    f"reference, {REFERENCE}, after its {TRIALS} trials, relative to all epochs (or the time) of the reference; 95 % "
    "interval over seeds (bootstrap).",
    f"Regrets in points of the metric, medians over seeds, after {', '.join(map(str, SHOWN))} trainings of all "
    "epochs; that of the configuration that a user would pick: the best complete one by its observed value.",
    "Rank: mean over seeds of the rank of the regret at the end. All begin with the objective's known good "
    "configuration. Epochs that a paused trial has trained count once.",
    "Surrogate: Gaussian processes over the curves of a table, plus the residuals of its curves as noise; the regret "
    "is without noise.",
)


def main() -> None:
    arguments = parser(__doc__, rounds=SEEDS)
    arguments.add_argument("--tables", default=",".join(table_names()), help="names, separated by commas")
    arguments.add_argument("--workers", default=",".join(map(str, WORKERS)))
    arguments.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, separated by commas")
    arguments.add_argument("--variants", action="store_true", help="other rungs of freeze-thaw instead")
    arguments.add_argument("--mode", choices=["surrogate", "rows"], default="surrogate")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = arguments.parse_args()
    seeds = 3 if options.quick else options.rounds
    tables = options.tables.split(",")[: 1 if options.quick else None]
    workers = [int(text) for text in options.workers.split(",")][: 1 if options.quick else None]
    names = list(dict.fromkeys([REFERENCE, *(VARIANTS if options.variants else options.only.split(","))]))
    suffix = "_rungs" if options.variants else "" if options.mode == "surrogate" else "_rows"
    report = Report(f"search{suffix}", "Searches replayed over learning curves", quick=options.quick)
    report.note(*NOTES, f"{seeds} seeds.")
    for table, count in product(tables, workers):
        facts = load_table(table)
        size = f", partial table of {len(facts.values)} configurations" if facts.partial else ""
        title = f"{table}, {count} workers{size}"
        jobs = _run(names, table, options.mode, count, seeds, None)
        found = dict(zip(names, _jobs(jobs, options.processes), strict=True))
        report.table(title, rows_of(found, facts.epochs))
        report.raw[title] = {name: course_of(one, facts.epochs) for name, one in found.items()}
        if not options.variants:
            limited = [name for name in LIMITED if name in names]
            jobs = _run(limited, table, options.mode, count, seeds, TRIALS)
            ended = dict(zip(limited, _jobs(jobs, options.processes), strict=True))
            report.table(f"{title}: {TRIALS} configurations each", limited_rows(ended, facts.epochs))
        report.keep()
    report.write()


if __name__ == "__main__":
    main()
