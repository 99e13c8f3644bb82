"""A user's own Optuna objective in the service and under plain `study.optimize`, in as many processes.

    python -m bench.own_code [--rounds 3] [--parts imports,optimize,suggestions]

- *imports*: ten trials of a toy model in one slot, whose function imports Keras. After the first trial, the template
  has imported it. The same with an environment variable that the function sets, so that each trial imports Keras.
- *optimize*: trials of half a second of processor time with ten reports, in two slots or processes, on the same
  PostgreSQL, from the start of the first trial to the end of the last one.
- *suggestions*: milliseconds of `trial.suggest_float` with the random sampler, which needs no time itself; both write
  the value to the same PostgreSQL.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import optuna

from bench.options import parser
from bench.peers import own_code, own_code_unlearned
from bench.report import Report, Row, ratio, spread
from bench.sandbox import Sandbox

_FILE, _UNLEARNED = Path(own_code.__file__), Path(own_code_unlearned.__file__)
_OURS = (
    "SELECT extract(epoch FROM attempts.started_at)::float8 AS began_at,"
    " extract(epoch FROM attempts.ended_at)::float8 AS ended_at FROM hpo.attempts"
    " JOIN hpo.trials USING (reservation_id) JOIN hpo.studies USING (study_id) WHERE name = :study ORDER BY 1"
)
_PLAIN = (
    "SELECT extract(epoch FROM datetime_start)::float8 AS began_at,"
    " extract(epoch FROM datetime_complete)::float8 AS ended_at"
    " FROM trials JOIN studies USING (study_id) WHERE study_name = :study ORDER BY 1"
)


def launched(
    sandbox: Sandbox, study: str, function: str, trials: int, workers: int, *options: object
) -> list[Any]:
    """Return begin and end of each trial in the service."""
    command: list[object] = [
        "-m",
        "hpo.cli",
        "launch",
        "--study",
        study,
        "--trials",
        trials,
        "--workers",
        workers,
    ]
    command += ["--objective", f"{_UNLEARNED if function == 'unlearned' else _FILE}:{function}", *options]
    sandbox.run(*command, HPO_STORAGE=sandbox.url, BENCH_FOLDER=sandbox.folder)
    return sandbox.rows(_OURS, study=study)


def optimized(sandbox: Sandbox, study: str, function: str, trials: int, processes: int) -> list[Any]:
    """Return begin and end of each trial of plain Optuna."""
    optuna.create_study(study_name=study, storage=sandbox.url)
    arguments = ["-m", "bench.peers.own_code", study, function, trials // processes]
    environment = sandbox.environment(
        BENCH_STORAGE=sandbox.url, BENCH_FOLDER=sandbox.folder, OMP_NUM_THREADS=1
    )
    for process in [sandbox.start(arguments, environment) for _ in range(processes)]:
        if process.wait():
            raise RuntimeError(sandbox.log_tail())
    return sandbox.rows(_PLAIN, study=study)


def imports(sandbox: Sandbox, rounds: int, trials: int) -> tuple[list[Row], Any]:
    whole, first, later = defaultdict(list), defaultdict(list), defaultdict(list)
    for number in range(rounds):
        for name, function in (("each trial imports Keras", "unlearned"), ("imported once", "learned")):
            spans = launched(sandbox, f"{function}-{number}", function, trials, 1)
            seconds = [span.ended_at - span.began_at for span in spans]
            whole[name].append(spans[-1].ended_at - spans[0].began_at)
            first[name].append(seconds[0])
            later[name].append(statistics.median(seconds[1:]))
    base = statistics.median(later["each trial imports Keras"])
    rows = [
        {
            "imports": name,
            "trials": trials,
            "first trial, s": spread(first[name]),
            "later trials, median s": spread(later[name]),
            "all trials, s": spread(whole[name]),
            "ratio of later trials": ratio(statistics.median(later[name]), base),
            "n": rounds,
        }
        for name in whole
    ]
    return rows, [whole, first, later]


def optimize(sandbox: Sandbox, rounds: int, trials: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        plain = optimized(sandbox, f"plain-{number}", "steps", trials, 2)
        ours = launched(
            sandbox, f"hpo-{number}", "steps", trials, 2, "--sampler", "random", "--pruner", "none"
        )
        for name, spans in (("study.optimize, 2 processes", plain), ("hpo launch, 2 slots", ours)):
            found[name].append(max(span.ended_at for span in spans) - spans[0].began_at)
    base = statistics.median(found["study.optimize, 2 processes"])
    rows = [
        {
            "contestant": name,
            "trials": trials,
            "seconds": spread(values),
            "ratio": ratio(statistics.median(values), base),
            "target": "≤ 1.2",
            "n": rounds,
        }
        for name, values in found.items()
    ]
    return rows, found


def suggestions(sandbox: Sandbox, trials: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = {}
    for name, ours in (("study.optimize", False), ("hpo launch", True)):
        if ours:
            launched(sandbox, "asks", "asks", trials, 1, "--sampler", "random", "--pruner", "none")
        else:
            optimized(sandbox, "plain-asks", "asks", trials, 1)
        paths = list(sandbox.folder.glob("asks-*"))
        found[name] = [float(value) for path in paths for value in path.read_text().split()]
        for path in paths:
            path.unlink()
    plain = statistics.median(found["study.optimize"])
    rows = [
        {
            "contestant": name,
            "median, ms": statistics.median(values),
            "90 %, ms": statistics.quantiles(values, n=10)[-1],
            "beyond plain Optuna, ms": statistics.median(values) - plain,
            "target": "< 5 ms",
            "n": len(values),
        }
        for name, values in found.items()
    ]
    return rows, found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--parts", default="imports,optimize,suggestions")
    options = arguments.parse_args()
    parts, few = options.parts.split(","), options.quick
    report = Report("own_code", "A user's own Optuna objective", quick=options.quick)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Sandbox() as sandbox:
        # All tables are created before anything is timed.
        sandbox.database().close()
        if "imports" in parts:
            rows, report.raw["imports"] = imports(sandbox, options.rounds, 3 if few else 10)
            report.table("Trials whose function imports Keras, in one slot", rows)
        if "optimize" in parts:
            rows, report.raw["optimize"] = optimize(sandbox, options.rounds, 4 if few else 30)
            report.table("Trials of half a second of processor time with ten reports", rows)
        if "suggestions" in parts:
            rows, report.raw["suggestions"] = suggestions(sandbox, 3 if few else 30)
            report.table("A suggestion with the random sampler, written to PostgreSQL", rows)
        report.write()


if __name__ == "__main__":
    main()
