"""Studies of the service that are timed: commands with a deadline, and the rates that their tables show."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import ProgrammingError

from bench.report import Row
from bench.sandbox import Sandbox

POLL_SECONDS = 0.5
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

    @property
    def words(self) -> str:
        """Its last line, else its exit code."""
        if self.code is None:
            return f"cut off after {self.seconds:.0f} s"
        return self.last_line or f"ended with {self.code}"


def command(
    sandbox: Sandbox, arguments: Sequence[object], seconds: float, enough: Callable[[], bool] | None = None
) -> Ended:
    """Run `python …` for at most so many seconds, or until `enough`; then Ctrl-C, which keeps the study's epochs."""
    log = f"log-{time.monotonic_ns()}"
    began_at = time.perf_counter()
    process = sandbox.start(arguments, sandbox.environment(), log)
    done = False
    while process.poll() is None and not done and time.perf_counter() - began_at < seconds:
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(POLL_SECONDS, seconds))
        done = enough is not None and enough()
    code = process.poll()
    if code is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    took = time.perf_counter() - began_at
    if process.poll() is None:
        sandbox.end_processes()
    return Ended(0 if done else code, took, (sandbox.folder / log).read_text(errors="replace"))


def hpo(
    sandbox: Sandbox, *arguments: object, seconds: float, enough: Callable[[], bool] | None = None
) -> Ended:
    """Run a command of the service."""
    return command(sandbox, ("-m", "hpo.cli", *arguments), seconds, enough)


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
    """Return trial, epoch and time of each completed epoch of a study; none if no launch has made the tables yet."""
    with suppress(ProgrammingError):
        return [(row.trial, row.epoch, float(row.at)) for row in sandbox.rows(_EPOCHS, study=study)]
    return []


def steady_window(ends: Sequence[tuple[int, int, float]]) -> tuple[float, float, int]:
    """Return begin and end of the time in which all trials train, and the epochs that are completed in it.

    The first epoch of a trial compiles. So it begins when the last trial has completed its first epoch, and ends with
    the last epoch of the trial that ends first.
    """
    trials: dict[int, list[float]] = {}
    for trial, _, at in sorted(ends, key=lambda end: end[2]):
        trials.setdefault(trial, []).append(at)
    if not trials:
        return 0.0, 0.0, 0
    begin, end = max(times[0] for times in trials.values()), min(times[-1] for times in trials.values())
    return begin, end, sum(begin < at <= end for times in trials.values() for at in times)


def steady_rate(ends: Sequence[tuple[int, int, float]], images: int) -> float | None:
    """Return images a second while all trials of a study train, given the ends of epochs of so many images.

    None if no epoch was completed in that time.
    """
    begin, end, done = steady_window(ends)
    return done * images / (end - begin) if end > begin and done else None


def is_steady(ends: Sequence[tuple[int, int, float]], trials: int, seconds: float) -> bool:
    """Return whether so many trials have trained at the same time for so long, and each for two epochs or more."""
    begin, end, done = steady_window(ends)
    return len({trial for trial, _, _ in ends}) == trials and end - begin >= seconds and done >= 2 * trials


def read_summary(sandbox: Sandbox, study: str) -> dict[str, Any]:
    """Return the summary of a retrain from its `metrics.json`; empty if there is none."""
    with suppress(OSError, ValueError, KeyError):
        file = sandbox.folder / "results" / study / "metrics.json"
        found: dict[str, Any] = json.loads(file.read_text())["summary"]
        return found
    return {}
