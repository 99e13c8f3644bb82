"""Starts the processes that log to trackers, prints their messages, and ends them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpo.process.process_groups import kill_group
from hpo.settings import Settings
from hpo.trackers.target import Target

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "hpo.trackers.process")

CLOSE_SECONDS = 125.0
"""Longest wait for the rest of a study; the process itself gives up earlier, after 20 s if nothing is taken."""

SILENT_SECONDS = 3.0
"""Seconds after which the wait is logged."""

RESULTS_SECONDS = 120.0
"""Longest wait for the results of a retrain, models included."""


class LoggingProcess:
    """A process that logs to one tracker."""

    def __init__(self, target: Target, task: Mapping[str, Any], output: Path) -> None:
        self._target = target
        self._output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                # A Ctrl-C is for the agent, which ends this process by its input.
                start_new_session=True,
                text=True,
            )
        self._reader = threading.Thread(target=self._log_messages, name=f"log-to-{target.kind}", daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        # Not on the command line, because the URL of the database may hold a password.
        with suppress(OSError):
            self._process.stdin.write(json.dumps({**task, "target": asdict(target)}) + "\n")
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Let it log the rest and end."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def wait(self, until: float, silent_until: float, hurried: Callable[[], bool]) -> None:
        """Wait for its end, and kill it at a time of the monotonic clock; return at once if the caller is `hurried`."""
        while self._process.poll() is None and not hurried():
            if time.monotonic() >= silent_until:
                log.info(f"waiting for {self._target.kind} to take the rest: Ctrl-C ends the wait")
                silent_until = until
            if time.monotonic() >= until:
                kill_group(self._process.pid)
                log.warning(f"{self._target.kind} has not taken everything in time: see {self._output}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        if self._process.poll() is None:
            return
        self._reader.join(1.0)
        with suppress(OSError):
            if self._process.returncode == 0 or not self._output.stat().st_size:
                self._output.unlink()

    def _log_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as messages:
            for line in messages:
                level, message = json.loads(line)
                log.log(logging.getLevelNamesMapping()[level.upper()], message)
        if self._process.wait() not in (0, 1, -signal.SIGKILL):
            log.warning(
                f"the process that logs to {self._target.kind} has died, see {self._output}: training continues, and"
                " the next launch logs the missing epochs"
            )


class LoggingProcesses:
    """The processes of all trackers of one command."""

    def __init__(self, targets: Sequence[Target], task: Mapping[str, Any], settings: Settings) -> None:
        self._processes = [
            LoggingProcess(
                target, task, settings.home / "logs" / f"log-to-{target.kind}-{number}-{os.getpid()}.log"
            )
            for number, target in enumerate(targets)
        ]

    def close(self, seconds: float = CLOSE_SECONDS, hurried: Callable[[], bool] = lambda: False) -> None:
        """Let them log the rest within `seconds`; leave them alone with that as soon as the command is `hurried`."""
        for process in self._processes:
            process.end_input()
        now = time.monotonic()
        try:
            for process in self._processes:
                process.wait(now + seconds, now + SILENT_SECONDS, hurried)
        except KeyboardInterrupt:
            log.info("not waiting for trackers: they go on by themselves for a while")


def follow_study(targets: Sequence[Target], study_id: int, settings: Settings) -> LoggingProcesses:
    """Start to log the trials of a study."""
    task = {"study_id": study_id, "storage": settings.storage, "home": str(settings.home)}
    return LoggingProcesses(targets, task, settings)
