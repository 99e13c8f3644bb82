"""The files of an agent's host: logs go to the database, checkpoints stay within their quota."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from hpo import formatting
from hpo.agent.checkpoint_quota import enforce_quota, entries
from hpo.agent.store.trial_store import TrialStore
from hpo.files.bounded_log import AttemptLog
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder, trial_folder

log = logging.getLogger(__name__)

LOG_SECONDS = 2.0
"""Seconds between two uploads of running attempts' logs."""

QUOTA_SECONDS = 5.0
"""Seconds between two measurements of the checkpoints' size."""

UNKNOWN_SECONDS = 86400.0
"""Time without a write after which the log of an attempt that the database does not know is removed."""

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
        """`folder` is the name of the study's folder in `checkpoints`; `logs` is its folder of logs."""
        self._folder = folder
        self._store = store
        self._checkpoints = checkpoints
        self._logs = logs
        self._quota = quota_bytes
        self._upload_at = self._quota_at = 0.0
        self._over_quota = False

    def open_log(self, number: int, attempt_id: int) -> AttemptLog:
        """Return the empty log of an attempt that begins."""
        path = self._logs / f"trial-{number}-attempt-{attempt_id}.log"
        # A file of this name is of another database whose attempts had the same numbers.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return self._log(path, attempt_id)

    def checkpoints_of(self, reservation_id: int) -> CheckpointFolder:
        return trial_folder(self._checkpoints, self._folder, reservation_id)

    def run_due(self, logs: Iterable[AttemptLog]) -> None:
        """Do the periodic work that is due; `logs` are those of the running attempts."""
        now = time.monotonic()
        if now >= self._upload_at:
            self._upload_at = now + LOG_SECONDS
            for attempt_log in logs:
                attempt_log.upload()
        if self._quota is not None and now >= self._quota_at:
            self.remove_checkpoints()

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of finished trials, and more if the study has a quota."""
        self._quota_at = time.monotonic() + QUOTA_SECONDS
        used_bytes = enforce_quota(
            self._checkpoints / self._folder,
            self._quota,
            self._store.files.open_reservations,
            self._store.files.while_waiting,
            self._store.files.while_ended,
        )
        if self._quota is None:
            return
        if used_bytes > self._quota and not self._over_quota:
            log.warning(
                f"the newest checkpoints of running trials alone take {formatting.size(used_bytes)}, more than"
                f" --checkpoint-quota {formatting.size(self._quota)}: raise it, or use fewer worker slots"
            )
        self._over_quota = used_bytes > self._quota

    def keep_orphaned_logs(self, held: frozenset[int], seconds: float) -> None:
        """Upload and remove the logs that dead agents have left.

        `held` are this agent's attempts; other agents have `seconds` to close their own logs.
        """
        found: dict[tuple[int, int], Path] = {}
        for path in entries(self._logs):
            match = _LOG.fullmatch(path.name)
            if match and int(match[2]) not in held:
                found[int(match[1]), int(match[2])] = path
        if not found:
            return
        orphaned = self._store.files.orphaned_logs([attempt_id for _, attempt_id in found], seconds)
        for (number, attempt_id), path in found.items():
            # Another agent of this host may be doing the same, and another user's file cannot be read.
            with suppress(OSError):
                if orphaned.get((number, attempt_id)):
                    self._log(path, attempt_id).close()
                elif (number, attempt_id) not in orphaned and _seconds_unwritten(path) > UNKNOWN_SECONDS:
                    path.unlink()

    def _log(self, path: Path, attempt_id: int) -> AttemptLog:
        return AttemptLog(path, partial(self._store.files.keep_log, attempt_id))


def _seconds_unwritten(path: Path) -> float:
    return time.time() - path.stat().st_mtime
