"""The process that logs to one tracker: `python -m hpo.trackers.process`, with a task on its standard input.

In a process of its own, a tracker that blocks, fills the memory or crashes costs no trial. The end of its input is the
end of the agent: then it logs the rest within seconds. Each line that it prints is a message to the user.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TextIO

from hpo.trackers.feed import TrialFeed, read_study
from hpo.trackers.follower import Follower, reason_of
from hpo.trackers.runs import Logged, Run, news_of
from hpo.trackers.target import MODULES, Target
from hpo.trackers.tracker import TrackedStudy, Tracker, open_tracker
from storage.connection.retry import Retry
from storage.engine import Database
from storage.opening import STARTUP_SECONDS, open_database
from storage.tracked import SessionLock

STALL_SECONDS = 20.0
"""Longest time that a tracker may take nothing after the agent has ended."""

FLUSH_SECONDS = 120.0
"""Longest time to log the rest after the agent has ended."""

RETRY = Retry(patience_seconds=5.0)


class DatabaseLock:
    """A lock of the database with the retry of a follower."""

    def __init__(self, database: Database, name: str) -> None:
        self._lock = SessionLock(database, name)

    def acquire(self) -> bool:
        return self._lock.acquire(RETRY)

    def release(self) -> None:
        self._lock.release()


class Messages:
    """Messages to the user, which the parent process logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def report(self, level: Literal["info", "warning"], message: str) -> None:
        # A parent that is gone reads nothing.
        with suppress(OSError):
            print(json.dumps([level, message]), file=self._stream, flush=True)


def main() -> int:
    """Do the task on the standard input."""
    # Libraries print to the log file, which is the standard error, and ask nothing.
    messages = Messages(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    control = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    task = json.loads(control.readline())
    target = Target(**task["target"])
    if "runs" in task:
        return _log_runs(target, task, messages)
    return _follow(target, task, control, messages)


def _follow(target: Target, task: Mapping[str, Any], control: TextIO, messages: Messages) -> int:
    """Follow the study until the input ends."""
    # Takes seconds, and the first epochs have not been trained yet.
    with suppress(ImportError):
        import_module(MODULES[target.kind])
    study_id: int = task["study_id"]
    home = Path(task["home"])
    with open_database(task["storage"], home, wait_seconds=STARTUP_SECONDS, migrate=False) as database:
        study = read_study(database, study_id, RETRY)
        if study is None:
            return 0
        follower = Follower(
            target.kind,
            lambda: TrialFeed(database, study_id, study, RETRY),
            lambda: open_tracker(target, study),
            lambda identity: DatabaseLock(database, identity),
            messages.report,
        )
        closing = threading.Event()

        def unfinished() -> None:
            if not follower.warned:
                messages.report(
                    "warning", f"{target.kind} may lack some runs: run the same command again to log them"
                )

        watch = partial(_watch, control, closing, follower, unfinished)
        threading.Thread(target=watch, daemon=True).start()
        if follower.run(closing):
            return 0
        unfinished()
        return 1


def _watch(
    control: TextIO, closing: threading.Event, follower: Follower, unfinished: Callable[[], None]
) -> None:
    """End this process some time after its input."""
    control.read()
    began_at = time.monotonic()
    closing.set()
    while time.monotonic() < min(
        began_at + FLUSH_SECONDS, max(began_at, follower.progress_at) + STALL_SECONDS
    ):
        time.sleep(0.1)
    unfinished()
    os._exit(1)


def _log_runs(target: Target, task: Mapping[str, Any], messages: Messages) -> int:
    """Log the runs of a retrain."""
    try:
        tracker: Tracker = open_tracker(target, TrackedStudy(**task["study"]))
        tracker.logged()
        for values in task["runs"]:
            news = news_of(Run.from_json(values), Logged())
            if news is not None:
                tracker.write(news)
        tracker.close()
    except Exception as exc:  # noqa: BLE001 - a tracker's library may raise anything
        messages.report(
            "warning",
            f"{target.kind} has not taken all of the retrain ({reason_of(exc)}): its results are in {task['folder']}",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
