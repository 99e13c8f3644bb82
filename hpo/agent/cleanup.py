"""The files of an agent's host: logs are kept where all can read them, checkpoints within their quota."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from hpo.agent.attempt_log import AttemptLog
from hpo.agent.checkpoint_quota import enforce_quota
from hpo.agent.trial_store import TrialStore
from hpo.trainer.checkpoints import CheckpointFolder, trial_folder

log = logging.getLogger(__name__)

LOG_SECONDS = 2.0
"""Between two looks at what running attempts have printed."""

QUOTA_SECONDS = 5.0
"""Between two looks at how much the checkpoints take."""

UNKNOWN_SECONDS = 86400.0
"""After which the log of an attempt that the database does not know is nobody's, when nobody has written to it."""

_LOG = re.compile(r"trial-([0-9]{1,18})-attempt-([0-9]{1,18})\.log")


class Cleanup:
    """Logs and checkpoints of one study on one host."""

    def __init__(
        self,
        folder: str,
        store: TrialStore,
        checkpoints: Path,
        logs: Path,
        quota_bytes: int | None,
    ) -> None:
        """`folder` is what the study's folder is called in `checkpoints`; `logs` is its own."""
        self._folder = folder
        self._store = store
        self._checkpoints = checkpoints
        self._logs = logs
        self._quota = quota_bytes
        self._logged = self._weighed = 0.0
        self._over_quota = False

    def new_log(self, number: int, attempt_id: int) -> AttemptLog:
        """The log of an attempt at a trial that begins now."""
        path = self._logs / f"trial-{number}-attempt-{attempt_id}.log"
        # What lies there is of another database, whose attempts had the same numbers.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return self._log(path, attempt_id)

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
            self._checkpoints / self._folder, self._quota, self._store.open_tokens, self._store.while_waiting
        )
        if self._quota is None:
            return
        if report.used_bytes > self._quota and not self._over_quota:
            log.info(
                f"the newest checkpoints of running trials alone take {report.used_bytes} bytes,"
                f" more than --checkpoint-quota {self._quota}"
            )
        self._over_quota = report.used_bytes > self._quota

    def _entries(self) -> list[Path]:
        # Not there before the first attempt.
        with suppress(OSError):
            return list(self._logs.iterdir())
        return []

    def keep_left_logs(self, held: frozenset[int], seconds: float) -> None:
        """Keep what attempts printed last whose agents could not, and remove the files.

        `held` are this agent's attempts, and `seconds` what other agents are given to close their own logs.
        """
        found: dict[tuple[int, int], Path] = {}
        for path in self._entries():
            match = _LOG.fullmatch(path.name)
            if match and int(match[2]) not in held:
                found[int(match[1]), int(match[2])] = path
        if not found:
            return
        left = self._store.left_logs([attempt_id for _, attempt_id in found], seconds)
        for (number, attempt_id), path in found.items():
            # Another agent of this host may be doing the same, and another user's file cannot be read.
            with suppress(OSError):
                if left.get((number, attempt_id)):
                    self._log(path, attempt_id).close()
                elif (number, attempt_id) not in left and _untouched(path) > UNKNOWN_SECONDS:
                    path.unlink()

    def _log(self, path: Path, attempt_id: int) -> AttemptLog:
        return AttemptLog(path, partial(self._store.keep_log, attempt_id))


def _untouched(path: Path) -> float:
    """Seconds since somebody last wrote to a file."""
    return time.time() - path.stat().st_mtime
