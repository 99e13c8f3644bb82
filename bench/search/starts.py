"""Searches that start from a belief or an earlier study: `python -m bench.search.starts [--rounds SEEDS] [--quick]`.

Replays over tables of learning curves, as `python -m bench.search`, with TPE and the median pruner. The known
configuration is the objective's (good), any of the table (useless), or one of its worst tenth (wrong). The earlier
study is one of the same table from another seed (same), of the other table (other), the latter with its results in a
random order (useless), or one that searched for the worst (misleading). Results: `bench/results/starts.{json,md}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from bench.options import parser
from bench.report import Report, Row
from bench.search.contestants import TRIALS, spec_of
from bench.search.curves import CurveTable, load_table
from bench.search.landscape import Surrogate, external
from bench.search.proposing import Trials
from bench.search.replay import Config, Log, replay
from bench.search.scores import Courses, courses, epochs_to_match
from bench.search.stopping import Stopping
from hpo.search.pruners import build_pruner
from hpo.search.samplers import build_sampler
from hpo.search.starting.learned import EarlierStudy, summarized
from hpo.search.starting.starting_points import starting_points
from hpo.search.views.subsampled_storage import rank

TABLES = ("mnist-cnn", "cifar-cnn")
BELIEFS = ("good", "useless", "wrong")
STUDIES = ("none", "same", "other", "useless", "misleading")
TRAININGS = 40
"""Epochs of each search, in trainings of all epochs."""
SHOWN = (5, 10, 20, 40)
WORKERS = 4
SEEDS = 20
EARLIER = 1000
"""Difference between the seeds of a study and of the earlier one."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Configurations that a search starts from."""

    first: Mapping[str, Any]
    learned: Sequence[EarlierStudy] = ()
    believes: bool = True
    """Whether other trials are drawn around these configurations, too."""


class _Started(Trials):
    """Trials of which the first ones are given."""

    def __init__(self, points: Sequence[Config], **options: Any) -> None:
        super().__init__(first={}, **options)
        self._points = points

    def propose(self) -> Config:
        proposed = super().propose()
        place = len(self._ids) - 1
        # The sampler draws missing parameters, as in the service.
        return {**proposed, **(self._points[place] if place < len(self._points) else {})}


@cache
def _surrogate(name: str) -> Surrogate:
    return Surrogate(load_table(name))


def searched(table: CurveTable, seed: int, start: Start, most: int | None) -> tuple[Log, Trials]:
    """Replay one search, of the table's objective or of the opposite direction."""
    first = (dict(start.first),) if start.first else ()
    spec = replace(spec_of(table, seed, "tpe", "median"), first=first, learned=tuple(start.learned))
    trials = _Started(
        starting_points(spec),
        space=table.space,
        direction=table.direction,
        sampler=build_sampler(spec if start.believes else replace(spec, first=(), learned=())),
        name=f"{table.name}-{seed}",
        pruner=build_pruner(spec),
    )
    contestant = Stopping(trials, last=table.epochs, most=most)
    epochs = (TRIALS if most else TRAININGS) * table.epochs
    return replay(contestant, _surrogate(table.name), workers=WORKERS, epochs=epochs, seed=seed), trials


def believed(kind: str, table: CurveTable, seed: int) -> Mapping[str, Any]:
    """Return a configuration that is good, useless or wrong."""
    if kind == "good":
        return table.first
    rng = np.random.default_rng([seed, 5])
    final = table.values[:, -1] if table.maximize else -table.values[:, -1]
    order = np.argsort(np.where(np.isfinite(final), final, -np.inf))
    place = int(rng.integers(len(order) // (10 if kind == "wrong" else 1)))
    return external(table.space, table.configurations[order[place]])


def earlier(kind: str, table: CurveTable, seed: int) -> list[EarlierStudy]:
    """Return the results of an earlier study of `TRIALS` trials; none for the kind "none"."""
    if kind == "none":
        return []
    if kind == "misleading":
        opposite = "minimize" if table.maximize else "maximize"
        source = replace(table, direction=opposite, first={})  # type: ignore[arg-type]
    else:
        source = table if kind == "same" else load_table(next(name for name in TABLES if name != table.name))
    _, trials = searched(source, EARLIER + seed, Start(first=source.first, believes=False), TRIALS)
    sign = -1.0 if source.maximize else 1.0
    ended = [trial for trial in trials.study.trials if trial.state.is_finished()]
    ranked = [trial.params for trial in sorted(ended, key=lambda trial: rank(trial, sign))]
    if kind == "useless":
        ranked = [ranked[place] for place in np.random.default_rng(seed).permutation(len(ranked))]
    return [summarized(kind, ranked)]


def _courses(table: CurveTable, starts: Sequence[Start], most: int | None) -> Courses:
    return courses(
        [searched(table, seed, start, most)[0] for seed, start in enumerate(starts)], TRIALS * table.epochs
    )


def _row(names: Mapping[str, str], found: Courses, reference: Courses, epochs: int) -> Row:
    return {
        **names,
        "epochs to match": str(epochs_to_match(found, reference, np.median)),
        "by the mean": str(epochs_to_match(found, reference, np.mean)),
        **{f"after {shown}": f"{100 * found.regrets[:, shown * epochs - 1].mean():.2f}" for shown in SHOWN},
    }


def belief_rows(table: CurveTable, seeds: int) -> list[Row]:
    """Return two rows for each kind of belief: it is tried first alone, or others are drawn around it, too."""
    rows = []
    for kind in BELIEFS:
        plain = [Start(first=believed(kind, table, seed), believes=False) for seed in range(seeds)]
        reference = _courses(table, plain, TRIALS)
        for use, starts in (
            ("tried first", plain),
            ("drawn around", [replace(start, believes=True) for start in plain]),
        ):
            names = {"configuration": kind, "use": use}
            rows.append(_row(names, _courses(table, starts, None), reference, table.epochs))
    return rows


def study_rows(table: CurveTable, seeds: int) -> list[Row]:
    """Return a row for each kind of earlier study."""
    plain = Start(first=table.first, believes=False)
    reference = _courses(table, [plain] * seeds, TRIALS)
    rows = []
    for kind in STUDIES:
        starts = [Start(first=table.first, learned=earlier(kind, table, seed)) for seed in range(seeds)]
        rows.append(_row({"earlier study": kind}, _courses(table, starts, None), reference, table.epochs))
    return rows


def main() -> None:
    options = parser(__doc__, rounds=SEEDS).parse_args()
    seeds = 2 if options.quick else options.rounds
    report = Report("starts", "Searches that start from a belief or an earlier study", quick=options.quick)
    for name in TABLES[: 1 if options.quick else None]:
        table = load_table(name)
        report.table(f"{name}: known configuration", belief_rows(table, seeds))
        report.table(f"{name}: earlier study", study_rows(table, seeds))
        report.keep()
    report.note(
        "Epochs to match: until the median (or mean) regret is at most that of TPE with the median pruner after its "
        f"{TRIALS} trials, with the configuration tried first, relative to all of its epochs; 95 % interval over seeds "
        "(bootstrap).",
        f"Mean regrets in points of the metric after {', '.join(map(str, SHOWN))} trainings of all epochs.",
        f"{seeds} seeds, {WORKERS} workers. With an earlier study, all begin with the objective's configuration.",
    )
    report.write()


if __name__ == "__main__":
    main()
