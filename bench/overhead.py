"""Overhead of the service: idle slots, calls for each trial, trials per second, commands.

    python -m bench.overhead [--rounds 3] [--parts busy,calls,rate,commands]

- *busy*: trials that only wait 5 s and report five times, in 8 slots. The share is the time inside `train`, summed
  over all trials, divided by 8 × the window from the start of the eighth trial (before it, the service starts up) to
  the start of the last one (after it, no trials are left for the slots).
- *calls*: the agent's calls of its trial store, in studies with 100 and with 10,000 finished trials.
- *rate*: `hpo launch` with an objective that does nothing, against plain `study.optimize` on the same PostgreSQL,
  from the start of the first trial to the end of the last one, so that imports do not count.
- *commands*: `hpo --help` and `hpo status` on the larger study, whole processes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from sqlalchemy import Engine, event

from bench import idle
from bench.history import fill
from bench.options import parser
from bench.report import Report, Row, ratio, spread
from bench.sandbox import Sandbox
from hpo.agent.store.trial_store import TrialStore
from hpo.options.launch_request import LaunchRequest
from hpo.outcomes import Outcome
from hpo.study.definition.create import create_or_continue
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.trainer.messages import EpochRecord
from objectives.device import Device
from objectives.spaces.space import stored_space
from storage.claiming.claims import Claim
from storage.connection.retry import Retry
from storage.engine import Database
from storage.leases import LeaseTimes

T = TypeVar("T")

EPOCHS = 3
HPO = Path(sys.executable).with_name("hpo")

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the measurements."""

    slots: int = 8
    wait_seconds: float = 5.0
    waits_each: int = 8
    """Number of trials for each slot."""
    few: int = 100
    many: int = 10_000
    cycles: int = 30
    """Number of trials whose calls are timed."""
    rate_trials: int = 200
    commands: int = 10


QUICK = Sizes(slots=2, wait_seconds=0.5, waits_each=3, few=20, many=200, cycles=3, rate_trials=8, commands=2)


# Busy slots.


def busy_share(spans: Sequence[Span], slots: int) -> float:
    """Return the share of the slots' time spent in trials, from the start of trial `slots` to that of the last one."""
    begins = sorted(begin for begin, _ in spans)
    opened, closed = begins[slots - 1], begins[-1]
    inside = sum(max(0.0, min(end, closed) - max(begin, opened)) for begin, end in spans)
    return inside / (slots * (closed - opened))


def busy(sizes: Sizes, rounds: int) -> tuple[list[Row], Any]:
    shares, gaps = [], []
    for _ in range(rounds):
        with Sandbox() as sandbox:
            trials = sizes.slots * sizes.waits_each
            sandbox.run(
                *_launch("busy", "Waiting", trials, sizes.slots),
                BENCH_SECONDS=sizes.wait_seconds,
                BENCH_FOLDER=sandbox.folder,
            )
            spans = [_span(path) for path in sandbox.folder.glob("span-*")]
            shares.append(busy_share(spans, sizes.slots))
            gaps.append(sizes.wait_seconds * (1 / shares[-1] - 1))
    row = {
        "slots": sizes.slots,
        "seconds per trial": sizes.wait_seconds,
        "busy, %": spread([100 * share for share in shares], 2),
        "idle between two trials, ms": spread([1000 * gap for gap in gaps], 0),
        "target": "≥ 99 %",
        "n": rounds,
    }
    return [row], shares


def _span(path: Path) -> Span:
    begin, end = path.read_text().split()
    return float(begin), float(end)


def _launch(study: str, objective: str, trials: int, workers: int) -> list[object]:
    arguments: list[object] = [
        "-m",
        "hpo.cli",
        "launch",
        "--study",
        study,
        "--pruner",
        "none",
        "--learn-from",
        "none",
    ]
    return [
        *arguments,
        "--objective",
        f"{idle.__file__}:{objective}",
        "--trials",
        trials,
        "--workers",
        workers,
    ]


# Calls.


@dataclass
class Timer:
    """Records milliseconds of wall and processor time, and the number of SQL statements, of calls by name."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statements: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, name: str, call: Callable[[], T]) -> T:
        with statements() as count:
            began_at, cpu = time.perf_counter(), time.process_time()
            result = call()
            self.milliseconds[name].append(1000 * (time.perf_counter() - began_at))
            self.cpu[name].append(1000 * (time.process_time() - cpu))
        self.statements[name].append(len(count))
        return result


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the SQL statements of this process inside the block, without pings, BEGIN and COMMIT."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def new_study(database: Database, name: str, finished: int) -> LaunchedStudy:
    """Create a study of `Nothing` with finished trials."""
    reference = f"{idle.__file__}:Nothing"
    request = LaunchRequest(
        study=name, objective=reference, trials=finished + 10_000, epochs=EPOCHS, pruner="median"
    )
    study = create_or_continue(database, request, reference, idle.Nothing.describe(reference), None)
    database.transaction(lambda connection: fill(connection, study, finished))
    return study


def cycle(store: TrialStore, timer: Timer) -> None:
    """Make all database calls of an agent for one trial of three epochs."""
    claim = timer("claim", lambda: store.claim(0, "cpu:0"))
    assert isinstance(claim, Claim)
    trial_id, _, params = timer("sample", lambda: store.sample(claim))
    timer("begin", lambda: store.begin(claim.attempt_id, 1, 0))
    for epoch in range(1, EPOCHS + 1):
        metrics = {"loss": idle.value(params) + 1 / epoch, "val_loss": 1.0, "accuracy": 0.5}
        record = EpochRecord(epoch, metrics, 1.0)
        timer("record", partial(store.record, claim.attempt_id, trial_id, [record]))
        if epoch < EPOCHS:
            timer("should_prune", partial(store.judgement.should_prune, claim.attempt_id, trial_id))
    timer("settle", lambda: store.settle(claim.attempt_id, Outcome.COMPLETE, metrics["loss"]))
    timer("refresh", store.refresh)


def plain_cycle(study: optuna.Study, timer: Timer) -> None:
    """Run the same trial with plain Optuna."""
    trial = timer("ask", lambda: study.ask(dict(stored_space(idle.Nothing.space))))
    for epoch in range(1, EPOCHS + 1):
        value = idle.value(trial.params) + 1 / epoch
        timer("report", partial(trial.report, value, epoch))
        if epoch < EPOCHS:
            timer("should_prune", trial.should_prune)
    timer("tell", lambda: study.tell(trial, value))


TIMES = {"record": EPOCHS, "should_prune": EPOCHS - 1, "report": EPOCHS}
"""Number of calls per trial, where there are several."""


def _measure(run: Callable[[Timer], None], cycles: int) -> Timer:
    run(Timer())
    timer = Timer()
    for _ in range(cycles):
        run(timer)
    return timer


def calls(sizes: Sizes) -> tuple[list[Row], list[Row], Any]:
    """Return milliseconds of each call at both sizes: the service's, plain Optuna's, and raw values."""
    ours: dict[int, Timer] = {}
    plain: dict[int, Timer] = {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Sandbox() as sandbox:
        for finished in (sizes.few, sizes.many):
            with sandbox.database() as database:
                study = new_study(database, f"calls-{finished}", finished)
                store = TrialStore(
                    database, study.study_id, study.name, study.spec, [Device()], Retry(), LeaseTimes()
                )
                ours[finished] = _measure(partial(cycle, store), sizes.cycles)
                store.leave()
            # Another study, so that it does not contain the trials that were added above.
            with sandbox.database() as database:
                study = new_study(database, f"plain-{finished}", finished)
                opened = optuna.load_study(
                    study_name=study.name,
                    storage=sandbox.url,
                    pruner=optuna.pruners.MedianPruner(n_warmup_steps=1),
                )
                plain[finished] = _measure(partial(plain_cycle, opened), sizes.cycles)
    raw = {
        f"{contestant} {finished}": timer.milliseconds
        for contestant, timers in (("hpo", ours), ("plain", plain))
        for finished, timer in timers.items()
    }
    return _call_rows(ours, sizes), _call_rows(plain, sizes), raw


def _call_rows(timers: dict[int, Timer], sizes: Sizes) -> list[Row]:
    few, many = timers[sizes.few], timers[sizes.many]
    rows: list[Row] = [
        {
            "call": name,
            "per trial": TIMES.get(name, 1),
            "statements": statistics.median(many.statements[name]),
            f"ms at {sizes.few:,}": statistics.median(few.milliseconds[name]),
            f"ms at {sizes.many:,}": statistics.median(many.milliseconds[name]),
            f"CPU ms at {sizes.few:,}": statistics.median(few.cpu[name]),
            f"CPU ms at {sizes.many:,}": statistics.median(many.cpu[name]),
        }
        for name in many.milliseconds
    ]
    total: Row = {"call": "whole trial", "per trial": 1}
    for column in list(rows[0])[2:]:
        total[column] = sum(row[column] * row["per trial"] for row in rows)
    for row in [*rows, total]:
        row["ratio"] = ratio(row[f"ms at {sizes.many:,}"], row[f"ms at {sizes.few:,}"])
        row["CPU ratio"] = ratio(row[f"CPU ms at {sizes.many:,}"], row[f"CPU ms at {sizes.few:,}"])
        row["n"] = sizes.cycles * row["per trial"]
    return [*rows, total]


# Trials per second.

_OURS = (
    "SELECT count(*) / extract(epoch FROM max(ended_at) - min(started_at))::float8 AS rate FROM hpo.attempts"
    " JOIN hpo.trials USING (reservation_id) JOIN hpo.studies USING (study_id) WHERE name = :study"
)
_PLAIN = (
    "SELECT count(*) / extract(epoch FROM max(datetime_complete) - min(datetime_start))::float8 AS rate"
    " FROM trials JOIN studies USING (study_id) WHERE study_name = :study"
)


def rate(sizes: Sizes, rounds: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = defaultdict(list)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Sandbox() as sandbox:
        # All tables are created before anything is timed.
        sandbox.database().close()
        for number in range(rounds):
            for parallel in (1, 2):
                study = f"hpo-{parallel}-{number}"
                sandbox.run(*_launch(study, "Nothing", sizes.rate_trials, parallel), HPO_STORAGE=sandbox.url)
                found[f"hpo launch, {parallel} slots"].append(sandbox.rows(_OURS, study=study)[0].rate)
                study = f"plain-{parallel}-{number}"
                optuna.create_study(study_name=study, storage=sandbox.url)
                arguments = ["-m", "bench.peers.plain_idle", study, sizes.rate_trials // parallel]
                environment = sandbox.environment(BENCH_STORAGE=sandbox.url)
                for process in [sandbox.start(arguments, environment) for _ in range(parallel)]:
                    if process.wait():
                        raise RuntimeError(sandbox.log_tail())
                name = f"study.optimize, {parallel} process{'es' if parallel > 1 else ''}"
                found[name].append(sandbox.rows(_PLAIN, study=study)[0].rate)
    rows = [
        {
            "contestant": name,
            "trials": sizes.rate_trials,
            "trials per second": spread(values),
            "n": len(values),
        }
        for name, values in sorted(found.items())
    ]
    return rows, found


# Commands.


def commands(sizes: Sizes) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = {}
    with Sandbox() as sandbox:
        with sandbox.database() as database:
            new_study(database, "history", sizes.many)
        lines = {
            "hpo --help": (HPO, "--help"),
            f"hpo status, {sizes.many:,} trials": (HPO, "status", "--study", "history"),
        }
        for name, line in lines.items():
            sandbox.run(*line)
            found[name] = [sandbox.run(*line) for _ in range(sizes.commands)]
    targets = (0.25, 1.5)
    rows = [
        {"command": name, "seconds": spread(values, 2), "target": f"≤ {target} s", "n": len(values)}
        for (name, values), target in zip(found.items(), targets, strict=True)
    ]
    return rows, found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--parts", default="busy,calls,rate,commands")
    options = arguments.parse_args()
    sizes = QUICK if options.quick else Sizes()
    report = Report("overhead", "Overhead of the service", quick=options.quick)
    parts = options.parts.split(",")
    if "busy" in parts:
        rows, report.raw["busy"] = busy(sizes, options.rounds)
        report.table("Busy slots", rows)
        report.note(
            "Busy: from the start of the trial that fills the last slot to the start of the last trial."
        )
    if "calls" in parts:
        ours, plain, report.raw["calls"] = calls(sizes)
        report.table("The agent's calls, by number of finished trials (target: ratio ≤ 1.5)", ours)
        report.table("The same trial with plain Optuna, TPE and MedianPruner", plain)
        report.note(
            "Statements: without BEGIN, COMMIT and pings. Calls: medians, after one warm-up trial. CPU: of the calling"
            " process, without PostgreSQL's."
        )
    if "rate" in parts:
        rows, report.raw["rate"] = rate(sizes, options.rounds)
        report.table("No-op trials", rows)
    if "commands" in parts:
        rows, report.raw["commands"] = commands(sizes)
        report.table("Commands, whole processes, with the database server running", rows)
    report.write()


if __name__ == "__main__":
    main()
