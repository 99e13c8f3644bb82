"""The files of an agent's host: logs are kept where all can read them, checkpoints within their quota."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from hpo.attempt_logs import AttemptLog
from hpo.books import Books
from hpo.checkpoints import CheckpointFolder, trial_folder
from hpo.progress import Progress
from hpo.quota import enforce_quota

LOG_SECONDS = 2.0
"""Between two looks at what running attempts have printed."""

QUOTA_SECONDS = 5.0
"""Between two looks at how much the checkpoints take."""


class Housekeeping:
    """Logs and checkpoints of one study on one host."""

    def __init__(
        self,
        folder: str,
        books: Books,
        progress: Progress,
        checkpoints: Path,
        logs: Path,
        quota_bytes: int | None,
    ) -> None:
        """`folder` is what the study's folder is called in `checkpoints`; `logs` is its own."""
        self._folder = folder
        self._books = books
        self._progress = progress
        self._checkpoints = checkpoints
        self._logs = logs
        self._quota = quota_bytes
        self._logged = self._weighed = 0.0
        self._over_quota = False

    def log_of(self, number: int, attempt_id: int) -> AttemptLog:
        """The log of an attempt at a trial."""
        path = self._logs / f"trial-{number}-attempt-{attempt_id}.log"
        return AttemptLog(path, partial(self._books.keep_log, attempt_id))

    def checkpoints_of(self, token: int) -> CheckpointFolder:
        """The checkpoints of the trial that holds this share of the budget."""
        return trial_folder(self._checkpoints, self._folder, token)

    def tend(self, logs: Iterable[AttemptLog]) -> None:
        """Do what is due; `logs` are those of the running attempts."""
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            for log in logs:
                log.ship()
        if self._quota is not None and now - self._weighed >= QUOTA_SECONDS:
            self.tidy()

    def tidy(self) -> None:
        """Remove the checkpoints of finished trials, and more where the study has a quota."""
        self._weighed = time.monotonic()
        report = enforce_quota(
            self._checkpoints / self._folder, self._quota, self._books.open_tokens, self._books.while_waiting
        )
        if self._quota is None:
            return
        if report.used_bytes > self._quota and not self._over_quota:
            self._progress.say(
                f"the newest checkpoints of running trials alone take {report.used_bytes} bytes,"
                f" more than --checkpoint-quota {self._quota}"
            )
        self._over_quota = report.used_bytes > self._quota

    def keep_logs_of(self, attempts: frozenset[int]) -> None:
        """Keep what attempts of agents that died here had printed last."""
        for path in self._logs.glob("trial-*-attempt-*.log"):
            attempt = path.stem.rpartition("-")[2]
            if attempt.isdecimal() and int(attempt) in attempts:
                AttemptLog(path, partial(self._books.keep_log, int(attempt))).close()
