"""The process that logs to one tracker: `python -m hpo.trackers.process`, with a task on its standard input.

In a process of its own, a tracker that blocks, fills the memory or crashes costs no trial. The end of its input is the
end of the agent: then it logs the rest within seconds. Each line that it prints is a message to the user.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TextIO

from hpo.trackers.feed import TrialFeed, read_study
from hpo.trackers.follower import Follower
from hpo.trackers.runs import Logged, Run, news_of
from hpo.trackers.target import MODULES, Target
from hpo.trackers.tracker import TrackedStudy, Tracker, open_tracker
from hpo.trainer.failures import one_line
from storage.connection.retry import Retry
from storage.engine import Database, open_database
from storage.tracked import SessionLock

FLUSH_SECONDS = 20.0
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
    closing = threading.Event()
    unfinished = f"{target.kind} may lack some runs: run the same command again to log them"
    watch = partial(_watch, control, closing, partial(messages.report, "warning", unfinished))
    threading.Thread(target=watch, daemon=True).start()
    # Takes seconds, and the first epochs have not been trained yet.
    with suppress(ImportError):
        import_module(MODULES[target.kind])
    if not _follow(target, task, closing, messages):
        messages.report("warning", unfinished)
        return 1
    return 0


def _watch(control: TextIO, closing: threading.Event, give_up: Any) -> None:
    """End this process `FLUSH_SECONDS` after its input."""
    control.read()
    closing.set()
    threading.Event().wait(FLUSH_SECONDS)
    give_up()
    os._exit(1)


def _follow(target: Target, task: Mapping[str, Any], closing: threading.Event, messages: Messages) -> bool:
    """Follow the study until `closing` is set; return whether everything is logged."""
    study_id: int = task["study_id"]
    with open_database(task["storage"], Path(task["home"]), migrate=False) as database:
        study = read_study(database, study_id, RETRY)
        if study is None:
            return True
        found: TrackedStudy = study
        return Follower(
            target.kind,
            lambda: TrialFeed(database, study_id, found, RETRY),
            lambda: open_tracker(target, found),
            lambda identity: DatabaseLock(database, identity),
            messages.report,
        ).run(closing)


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
            f"{target.kind} has not taken all of the retrain ({one_line(exc)}): its results are in {task['folder']}",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
