"""Real searches with both pruners at the same time: `python -m bench.search.real --objective mnist-cnn --limit 15000`.

Each seed trains two studies next to each other, one slot and one core each, for the same time: TPE with the median
pruner, and freeze-thaw with its model. Neither learns from the other. `--rounds` seeds begin after those that
`bench/results/search_real.json` holds, so that rounds can be added later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.options import parser
from bench.report import RESULTS, Report, Row, spread
from bench.sandbox import Sandbox

PRUNERS = {"tpe+median": ("tpe", "median"), "freeze-thaw model": ("curves", "freeze-thaw")}
REFERENCE = "tpe+median"
GRACE_SECONDS = 600
"""Seconds that a launch may take longer than its time limit: to load, and to end."""
NAME = "search_real"


@dataclass(frozen=True)
class Epoch:
    """An epoch that a trainer has reported."""

    at: float
    """Time stamp in seconds."""
    trial: str
    epoch: int
    value: float


@dataclass(frozen=True)
class Course:
    """The value of the trial that a user would pick, after each epoch of a search."""

    seconds: Sequence[float]
    """Time from the first epoch's begin, about: from the first report."""
    values: Sequence[float]
    configurations: int
    complete: int

    def first_to(self, value: float) -> int | None:
        """Return how many epochs the search needed for this value; None: it never had it."""
        return next((index + 1 for index, found in enumerate(self.values) if found >= value), None)


def course_of(epochs: Sequence[Epoch], last: int) -> Course:
    """Return the course of a search for large values: the pick is the best complete trial, and before one is complete,
    the best of those that trained longest."""
    seconds, values = [], []
    best = (0, -math.inf)
    for one in epochs:
        best = max(best, (one.epoch, one.value))
        seconds.append(round(one.at - epochs[0].at, 1))
        values.append(best[1])
    complete = sum(one.epoch == last for one in epochs)
    return Course(seconds, values, len({one.trial for one in epochs}), complete)


def search_both(arguments: Mapping[str, Any], seed: int) -> dict[str, Course]:
    """Train a study with each pruner, both at the same time."""
    with Sandbox() as sandbox:
        # The server is started before both launches, which must not wait for each other.
        _ = sandbox.url
        launches = {
            name: sandbox.start(
                ["-m", "hpo.cli", *_launch(arguments, seed, *names)], sandbox.environment(), f"log-{names[1]}"
            )
            for name, names in PRUNERS.items()
        }
        for name, launch in launches.items():
            if launch.wait(60 * arguments["minutes"] + GRACE_SECONDS):
                log = sandbox.log_tail(f"log-{PRUNERS[name][1]}")
                raise RuntimeError(f"the search with {name} failed: {log}")
        return {
            name: course_of(list(_epochs(sandbox, names[1])), arguments["epochs"])
            for name, names in PRUNERS.items()
        }


def _launch(arguments: Mapping[str, Any], seed: int, sampler: str, pruner: str) -> list[object]:
    found: list[object] = ["launch", "--study", pruner, "--objective", arguments["objective"]]
    found += ["--limit", arguments["limit"], "--epochs", arguments["epochs"], "--trials", arguments["trials"]]
    found += [
        "--timeout",
        f"{arguments['minutes']}m",
        "--sampler",
        sampler,
        "--pruner",
        pruner,
        "--seed",
        seed,
    ]
    return [*found, "--learn-from", "none", "--workers", 1, "--device", "cpu"]


def _epochs(sandbox: Sandbox, study: str) -> Iterator[Epoch]:
    rows = sandbox.rows(
        "SELECT extract(epoch FROM e.created_at)::float8 AS at, e.reservation_id::text AS trial, e.epoch,"
        " (e.metrics->>'val_accuracy')::float8 AS value FROM hpo.epochs e"
        " JOIN hpo.trials t ON t.reservation_id = e.reservation_id"
        " JOIN hpo.studies s ON s.study_id = t.study_id WHERE s.name = :study ORDER BY e.created_at",
        study=study,
    )
    for row in rows:
        yield Epoch(row.at, row.trial, row.epoch, row.value)


def rows_of(rounds: Sequence[Mapping[str, Course]]) -> list[Row]:
    """Return a row for each pruner."""
    return [
        {
            "pruner": name,
            "best complete value": spread([one[name].values[-1] for one in rounds], 4),
            "better in": f"{sum(one[name].values[-1] > _other(one, name) for one in rounds)} of {len(rounds)}",
            "epochs": spread([float(len(one[name].values)) for one in rounds], 0),
            "configurations": spread([float(one[name].configurations) for one in rounds], 0),
            "complete": spread([float(one[name].complete) for one in rounds], 0),
            "epochs to the reference's value": _costs(rounds, name),
            "time to it": _times(rounds, name),
        }
        for name in PRUNERS
    ]


def _other(found: Mapping[str, Course], name: str) -> float:
    return next(course.values[-1] for other, course in found.items() if other != name)


def _costs(rounds: Sequence[Mapping[str, Course]], name: str) -> str:
    reached = [one[name].first_to(one[REFERENCE].values[-1]) for one in rounds]
    return ", ".join(
        "never" if count is None else f"{count / len(one[REFERENCE].values):.2f}"
        for count, one in zip(reached, rounds, strict=True)
    )


def _times(rounds: Sequence[Mapping[str, Course]], name: str) -> str:
    reached = [one[name].first_to(one[REFERENCE].values[-1]) for one in rounds]
    return ", ".join(
        "never" if count is None else f"{one[name].seconds[count - 1] / one[REFERENCE].seconds[-1]:.2f}"
        for count, one in zip(reached, rounds, strict=True)
    )


def _stored() -> dict[str, list[dict[str, Any]]]:
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["raw"] if path.exists() else {}


def _tables(report: Report) -> None:
    for title, stored in report.raw.items():
        rounds = [{name: Course(**one[name]) for name in PRUNERS} for one in stored]
        report.table(title, rows_of(rounds))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--objective", default="mnist-cnn")
    arguments.add_argument("--limit", type=int, default=15_000)
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--trials", type=int, default=60)
    arguments.add_argument("--minutes", type=int, default=15, help="time limit of each search")
    options = arguments.parse_args()
    sizes = {key: getattr(options, key) for key in ("objective", "limit", "epochs", "trials", "minutes")}
    if options.quick:
        sizes |= {"objective": "digits-cnn", "limit": 300, "epochs": 4, "trials": 4, "minutes": 2}
    report = Report(NAME, "Real searches with both pruners at the same time", quick=options.quick)
    report.raw = {} if options.quick else _stored()
    report.note(
        "Two studies at the same time, one slot of one core each, on the same PostgreSQL, for the same number of"
        " minutes or until all trials have ended; neither learns from the other.",
        "Best value: of the complete trials, as a user sees it. Median (lowest–highest) over seeds; ratios seed by"
        " seed, relative to the whole search of tpe+median.",
    )
    title = (
        "{objective}, {limit:,} images, {epochs} epochs, {trials} trials, at most {minutes} minutes".format(
            **sizes
        )
    )
    rounds = report.raw.setdefault(title, [])
    for _ in range(1 if options.quick else options.rounds):
        found = search_both(sizes, seed=len(rounds))
        rounds.append({name: asdict(course) for name, course in found.items()})
        _tables(report)
        report.keep()
    report.write()


if __name__ == "__main__":
    main()
