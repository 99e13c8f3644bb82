"""Memory of four concurrent trials on data of MNIST's size, and the number of copies of the data.

    HPO_DATA_DIR=data python -m bench.memory [--rounds 1]

It samples the proportional set sizes (a page that k processes share counts 1/k in each, so that sums are correct) of
the agent, the template and the trainers of `hpo launch`, and of four processes of plain Optuna with `model.fit`, every
second while all of them train. The highest sum counts; for growth, the median.

The budget for four slots is 1.5 × the memory of a single trainer (with agent and template) + 4 × its working memory
(the private pages of a trainer). A second run has eight times the images: the growth of all processes, divided by the
growth of the data, is the number of copies.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from bench import contestants
from bench.contestants import Job
from bench.jobs import mnist_job
from bench.options import parser
from bench.report import Report, Row, median
from bench.sandbox import Sandbox

MIB = 2**20
SLOTS = 4
REPEAT = 8
EPOCHS = 50
"""Number of epochs that never end during the measurement."""
BUILT_CPU_SECONDS = 3.0
"""Processor time after which a forked trainer has built and traced its model."""


@dataclass(frozen=True)
class Sample:
    """Memory of a contestant's processes at one moment, in MiB."""

    total: float
    roles: dict[str, float]
    """Proportional set size by role."""
    working: float
    """Private pages of one trainer, averaged over trainers."""
    trainers: int
    median: float = 0.0
    """Median of all totals, if this is the highest of several samples."""


def sample(roots: Sequence[psutil.Process]) -> Sample:
    """Measure `roots` and their descendants, except PostgreSQL's processes."""
    sizes: defaultdict[str, float] = defaultdict(float)
    private: list[float] = []
    for root in roots:
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                role = _role(root, process)
                memory = process.memory_full_info()
                sizes[role] += memory.pss / MIB
                if role == "trainers":
                    private.append(memory.uss / MIB)
    sizes.pop("database", 0.0)
    working = sum(private) / len(private) if private else 0.0
    return Sample(sum(sizes.values()), dict(sizes), working, len(private))


def _role(root: psutil.Process, process: psutil.Process) -> str:
    """Return a process' role: the agent's only child is the template, whose children train."""
    if "postgres" in process.name():
        return "database"
    if "plain_optuna" in " ".join(root.cmdline()):
        return "trainers"
    if process == root:
        return "agent"
    return "template" if process.parent() == root else "trainers"


def measure(sandbox: Sandbox, roots: Sequence[psutil.Process], trainers: int, seconds: float) -> Sample:
    """Return the largest sample over `seconds`, beginning when all trainers train."""
    deadline = time.monotonic() + 600
    samples: list[Sample] = []
    until = None
    while until is None or time.monotonic() < until:
        time.sleep(1.0)
        if not all(root.is_running() for root in roots) or time.monotonic() > deadline:
            raise RuntimeError(f"the trainers did not start to train: {sandbox.log_tail()}")
        now = sample(roots)
        if now.trainers == trainers and _begun(sandbox, roots) >= trainers:
            until = until or time.monotonic() + seconds
            samples.append(now)
    totals = [each.total for each in samples]
    return replace(samples[totals.index(max(totals))], median=statistics.median(totals))


def _begun(sandbox: Sandbox, roots: Sequence[psutil.Process]) -> int:
    """Count training trainers: plain ones leave a file, forked ones have used enough processor time."""
    begun = len(list(sandbox.folder.glob("training-*")))
    for root in roots:
        for process in root.children(recursive=True):
            with suppress(psutil.Error):
                forked = _role(root, process) == "trainers"
                begun += forked and process.cpu_times().user > BUILT_CPU_SECONDS
    return begun


def service(sandbox: Sandbox, slots: int, job: Job) -> list[psutil.Process]:
    arguments = ["launch", "--study", "bench", "--objective", f"{mnist_job.__file__}:{job.objective}"]
    arguments += ["--workers", str(slots), "--trials", "100", "--epochs", str(EPOCHS), "--pruner", "none"]
    started = sandbox.start(["-m", "hpo.cli", *arguments], sandbox.environment(**job.variables))
    return [psutil.Process(started.pid)]


def plain(sandbox: Sandbox, slots: int, job: Job) -> list[psutil.Process]:
    contestants.make_optuna_study(sandbox)
    environment = sandbox.environment(BENCH_STORAGE=sandbox.url, **job.variables)
    arguments = contestants.peer_arguments(sandbox, job, "plain_optuna", 100, 0)
    return [psutil.Process(sandbox.start(arguments, environment).pid) for _ in range(slots)]


Start = Callable[[Sandbox, int, Job], list[psutil.Process]]


def run(start: Start, slots: int, job: Job, repeat: int, seconds: float) -> Sample:
    variables = {**job.variables, "BENCH_REPEAT": repeat}
    with Sandbox() as sandbox:
        found = measure(sandbox, start(sandbox, slots, replace(job, variables=variables)), slots, seconds)
    print(f"{slots} slots, images {repeat} times: {found}", flush=True)
    return found


def main() -> None:
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--seconds", type=float, default=30.0, help="seconds of sampling")
    options = arguments.parse_args()
    job = Job(objective="MnistWhole", trials=100, epochs=EPOCHS)
    images = 60_000
    if options.quick:
        images = 12_000
        job = replace(job, variables=contestants.quick_variables() | {"BENCH_IMAGES": images})
        options.seconds = 3.0
    if not options.quick:
        mnist_job.fetch()
    report = Report("memory", f"Memory of {SLOTS} concurrent trials", quick=options.quick)
    rows: dict[str, list[Row]] = {}
    ones: list[Sample] = []
    raw: list[dict[str, Any]] = []
    # Without validation images, which are copied only once.
    added = (REPEAT - 1) * images * 28 * 28 / MIB
    for _ in range(options.rounds):
        one = run(service, 1, job, 1, options.seconds)
        ones.append(one)
        budget = 1.5 * one.total + SLOTS * one.working
        for name, start in (("hpo launch", service), ("Optuna + model.fit", plain)):
            four = run(start, SLOTS, job, 1, options.seconds)
            more = run(start, SLOTS, job, REPEAT, options.seconds)
            rows.setdefault(name, []).append(_row(four, budget, (more.median - four.median) / added))
            raw += [{"contestant": name, "slots": SLOTS, "repeat": 1} | asdict(four)]
            raw += [{"contestant": name, "slots": SLOTS, "repeat": REPEAT} | asdict(more)]
        raw.append({"contestant": "hpo launch", "slots": 1, "repeat": 1} | asdict(one))
    medians = {name: _medians(of_rounds) for name, of_rounds in rows.items()}
    report.table(
        f"{SLOTS} concurrent trials, proportional set sizes",
        [
            {"contestant": name, **row, "within": row["MiB in total"] <= row["budget, MiB"]}
            for name, row in medians.items()
        ],
    )
    alone, working = median([one.total for one in ones]), median([one.working for one in ones])
    report.note(
        f"One slot alone: {alone:.0f} MiB with agent and template, of which the trainer's private pages are"
        f" {working:.0f} MiB. Budget: 1.5 × the first + {SLOTS} × the second.",
        f"Copies of the data: growth of the sum over all processes (median of the samples) with {added:.0f} MiB more"
        f" of training images, divided by that size. Each run lasts {options.seconds:.0f} s; medians of"
        f" n = {options.rounds}.",
    )
    report.raw = {"samples": raw}
    report.write()


def _row(found: Sample, budget: float, copies: float) -> Row:
    return {
        "MiB in total": found.total,
        **{f"MiB, {role}": found.roles.get(role) for role in ("agent", "template", "trainers")},
        "working MiB per trainer": found.working,
        "budget, MiB": budget,
        "copies of the data": copies,
    }


def _medians(rows: Sequence[Row]) -> Row:
    """Return the median of each column; None where no row has a value."""
    return {name: median([row[name] for row in rows if row[name] is not None]) for name in rows[0]}


if __name__ == "__main__":
    main()
