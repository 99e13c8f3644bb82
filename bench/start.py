"""Seconds from a command to its first result: the first epoch, a report, the first page of the dashboard.

    HPO_DATA_DIR=data python -m bench.start [--rounds 3] [--parts launch,report,page]

Each command is a process of its own and finds no database server running: the embedded PostgreSQL starts with it. The
first launch of a round creates the database, too. Studies of many trials are inserted (`bench/history.py`).
"""

from __future__ import annotations

import signal
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.jobs import mnist_job
from bench.options import parser
from bench.overhead import new_study
from bench.report import Report, Row, spread
from bench.sandbox import Sandbox
from storage.opening import open_database

LAUNCHES = {"hpo launch, first ever start": 7.0, "hpo launch, second start": 5.0}
"""Targets in seconds from the command to the end of the first epoch."""
REPORTS = {12: 3.0, 1_000: 6.0}
"""Targets in seconds of `hpo report`, by number of trials."""
PAGE_SECONDS = 2.0
"""Target in seconds from the request of a study's page to the last of its answers."""

_FIRST_EPOCH = (
    "SELECT extract(epoch FROM min(epochs.created_at))::float8 AS at FROM hpo.epochs JOIN hpo.trials"
    " USING (reservation_id) JOIN hpo.studies USING (study_id) WHERE name = :study"
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the measurements."""

    objective: tuple[object, ...] = ("mnist-cnn", "--limit", 10_000)
    trials: tuple[int, ...] = tuple(REPORTS)
    page_trials: int = 1_000


QUICK = Sizes(objective=("digits-cnn",), trials=(12,), page_trials=20)


def launches(sizes: Sizes, rounds: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        with Sandbox() as sandbox:
            began_at = {}
            for name in LAUNCHES:
                began_at[name] = time.time()
                sandbox.run(*_launch(f"study-{len(began_at)}", sizes))
            for number, name in enumerate(LAUNCHES, start=1):
                first = sandbox.rows(_FIRST_EPOCH, study=f"study-{number}")[0].at
                found[name].append(first - began_at[name])
    return _rows(found, LAUNCHES), found


def _launch(study: str, sizes: Sizes) -> list[object]:
    command: list[object] = ["-m", "hpo.cli", "launch", "--study", study, "--objective", *sizes.objective]
    return [*command, "--workers", 2, "--trials", 2, "--epochs", 1]


def reports(sizes: Sizes, rounds: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = defaultdict(list)
    with Sandbox() as sandbox:
        for trials in sizes.trials:
            _fill(sandbox, trials)
            for _ in range(rounds):
                command = [
                    "-m",
                    "hpo.cli",
                    "report",
                    "--study",
                    f"of-{trials}",
                    "-o",
                    sandbox.folder / "report",
                ]
                found[_report(trials)].append(sandbox.run(*command))
    return _rows(found, {_report(trials): seconds for trials, seconds in REPORTS.items()}), found


def _report(trials: int) -> str:
    return f"hpo report of {trials:,} trials"


def pages(sizes: Sizes, rounds: int) -> tuple[list[Row], Any]:
    found: dict[str, list[float]] = defaultdict(list)
    with Sandbox() as sandbox:
        study = _fill(sandbox, sizes.page_trials)
        for number in range(rounds):
            began_at = time.perf_counter()
            with _dashboard(sandbox, f"dashboard-{number}") as url:
                found["hpo dashboard, until it answers"].append(time.perf_counter() - began_at)
                for name in _page_names(sizes):
                    began_at = time.perf_counter()
                    _read_page(url, study)
                    found[name].append(time.perf_counter() - began_at)
    return _rows(found, {_page_names(sizes)[0]: PAGE_SECONDS}), found


def _page_names(sizes: Sizes) -> tuple[str, str]:
    return tuple(f"{which} page of a study of {sizes.page_trials:,} trials" for which in ("first", "second"))  # type: ignore[return-value]


@contextmanager
def _dashboard(sandbox: Sandbox, log: str) -> Iterator[str]:
    """Run `hpo dashboard` in this block; yield its URL once it listens."""
    command = ["-u", "-m", "hpo.cli", "dashboard", "--port", 0]
    process = sandbox.start(command, sandbox.environment(), log)
    try:
        while "http://" not in (printed := (sandbox.folder / log).read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"hpo dashboard has ended: {sandbox.log_tail(log)}")
            time.sleep(0.01)
        yield next(word for word in printed.split() if word.startswith("http://"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _read_page(url: str, study: int) -> None:
    """Read what a browser needs for the page of a study: the page, its program and all trials."""
    for path in (
        f"dashboard/studies/{study}",
        "static/bundle.js",
        "api/meta",
        "api/studies",
        f"api/studies/{study}?after=0",
    ):
        with urllib.request.urlopen(url + path) as answer:
            answer.read()


def _fill(sandbox: Sandbox, trials: int) -> int:
    """Insert a study of finished trials, and stop the server again; return the study's id."""
    sandbox.home.parent.mkdir(parents=True, exist_ok=True)
    with open_database(None, sandbox.home) as database:
        return new_study(database, f"of-{trials}", trials).study_id


def _rows(found: dict[str, list[float]], targets: dict[str, float]) -> list[Row]:
    return [
        {
            "from the command to": name,
            "seconds": spread(values, 2),
            "target": f"≤ {targets[name]:g} s" if name in targets else None,
            "n": len(values),
        }
        for name, values in found.items()
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--parts", default="launch,report,page")
    options = arguments.parse_args()
    sizes = QUICK if options.quick else Sizes()
    parts = options.parts.split(",")
    if not options.quick and "launch" in parts:
        mnist_job.fetch()
    report = Report("start", "Seconds to the first result", quick=options.quick)
    report.note(
        "Launch: `mnist-cnn` on 10,000 images, two slots, until the database has the first epoch, which is"
        " trained and evaluated by then. Page: HTML, JavaScript and all trials, read one after the other; the study's"
        " trials have three epochs."
    )
    for part, title, measure in (
        ("launch", "The first epoch", launches),
        ("report", "Reports", reports),
        ("page", "The dashboard", pages),
    ):
        if part in parts:
            rows, report.raw[part] = measure(sizes, options.rounds)
            report.table(title, rows)
            report.keep()
    report.write()


if __name__ == "__main__":
    main()
