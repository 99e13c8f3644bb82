"""Studies of the service that are timed: commands with a deadline, and the rates that their tables show."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bench.report import Row
from bench.sandbox import Sandbox

END_SECONDS = 15.0
"""Time that a command has to end in, after a signal."""

_EPOCHS = """
SELECT t.number AS trial, e.epoch AS epoch, extract(epoch FROM e.created_at) AS at
FROM hpo.epochs e JOIN hpo.trials t USING (reservation_id) JOIN studies s USING (study_id)
WHERE s.study_name = :study
"""


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    code: int | None
    """None: it was ended at its deadline."""
    seconds: float
    output: str

    @property
    def last_line(self) -> str:
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1][-300:] if lines else ""


def command(sandbox: Sandbox, arguments: Sequence[object], seconds: float, **variables: object) -> Ended:
    """Run `python …` for at most so many seconds; then Ctrl-C, which keeps what a study has, and at last a kill."""
    log = f"log-{time.monotonic_ns()}"
    began_at = time.perf_counter()
    process = sandbox.start(arguments, sandbox.environment(**variables), log)
    code: int | None = None
    try:
        code = process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    took = time.perf_counter() - began_at
    if process.poll() is None:
        sandbox.end_processes()
    return Ended(code, took, (sandbox.folder / log).read_text(errors="replace"))


def hpo(sandbox: Sandbox, *arguments: object, seconds: float, **variables: object) -> Ended:
    """Run a command of the service."""
    return command(sandbox, ("-m", "hpo.cli", *arguments), seconds, **variables)


def offers(sandbox: Sandbox, name: str, option: str) -> bool:
    """Return whether a command of the service has an option."""
    found = hpo(sandbox, name, "--help", seconds=60.0)
    return option in found.output.split()


def status(sandbox: Sandbox, study: str) -> Row:
    """Return `hpo status --json`; empty if there is no such study."""
    found = hpo(sandbox, "status", "--study", study, "--json", seconds=60.0)
    with suppress(ValueError):
        parsed: Row = json.loads(found.output)
        return parsed
    return {}


def epochs(sandbox: Sandbox, study: str) -> list[tuple[int, int, float]]:
    """Return trial, epoch and time of each completed epoch of a study."""
    return [(row.trial, row.epoch, float(row.at)) for row in sandbox.rows(_EPOCHS, study=study)]


def steady_rate(ends: Sequence[tuple[int, int, float]], images: int) -> float | None:
    """Return images a second while all trials of a study train, given the ends of epochs of so many images.

    The first epoch of a trial compiles. So the time counts from when the last trial has completed its first epoch, to
    when the first trial ends. None if no epoch was completed in between.
    """
    trials: dict[int, list[float]] = {}
    for trial, _, at in sorted(ends, key=lambda end: end[2]):
        trials.setdefault(trial, []).append(at)
    if not trials:
        return None
    begin, end = max(times[0] for times in trials.values()), min(times[-1] for times in trials.values())
    done = sum(begin < at <= end for times in trials.values() for at in times)
    return done * images / (end - begin) if end > begin and done else None


def read_summary(sandbox: Sandbox, study: str) -> dict[str, Any]:
    """Return the summary of a retrain from its `metrics.json`; empty if there is none."""
    with suppress(OSError, ValueError, KeyError):
        file = sandbox.folder / "results" / study / "metrics.json"
        found: dict[str, Any] = json.loads(file.read_text())["summary"]
        return found
    return {}
