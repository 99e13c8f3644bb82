"""Checkpoints, from which interrupted trials resume: one folder a trial, one file an epoch, written atomically.

A file is written under another name, synced and renamed, so a file with the final name is complete unless the disk
itself fails; then its digest shows the damage, and the file before is used. An epoch after which nothing was saved has
no file. A file that cannot be read because the disk does not answer is not damaged: a trial that ignored it would start
from scratch and delete it.

The outcome of a trial is saved next to them in the same way, until its agent has it in the database.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hpo.errors import DiskFullError, HpoError
from hpo.files.atomic import PARTIAL, atomic_write
from hpo.outcomes import Outcome
from hpo.trainer.checkpointing import checkpoint_file
from hpo.trainer.checkpointing.checkpoint_file import Checkpoint, history_of
from hpo.trainer.messages import EpochRecord
from objectives.runs.records import plain_records
from objectives.values import text

KEPT = 2
"""Number of checkpoints kept of a trial: the newest, and the one before in case of damage."""

_CHECKPOINT = re.compile(r"epoch-\d+\.npz")


class CheckpointsError(HpoError):
    """Checkpoints cannot be written or read; this is not the trial's fault."""


def check_writable(checkpoints: Path) -> None:
    """Create the folder of all checkpoints; raise CheckpointsError if it is not writable."""
    probe = checkpoints / f".{uuid.uuid4().hex}"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"1")
        finally:
            # On a full disk the file exists, but is empty.
            unlink(probe)
    except OSError as exc:
        raise CheckpointsError(
            f"checkpoints cannot be written to {checkpoints} ({exc.strerror or exc}): set HPO_CHECKPOINTS to a"
            " folder that this user may write to, with space left"
        ) from exc


@dataclass(frozen=True)
class SavedOutcome:
    """Outcome of a run that its agent may not have stored yet."""

    outcome: Outcome
    error: str
    traceback: str
    history: tuple[EpochRecord, ...]
    results: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None


class CheckpointFolder:
    """The checkpoints of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outcome_file = path / "ended.json"

    def write(
        self, history: Sequence[EpochRecord], state: Mapping[str, Any], codes: Sequence[str] = ("",)
    ) -> None:
        """Write `state` as the state after the last epoch of `history`; keep the newest `KEPT` files.

        Raises:
            DiskFullError: there is no space; earlier checkpoints are untouched.
            CheckpointsError: writing failed for another reason; the same holds.
        """
        final = self._file(len(history))
        self._write_atomically(final, lambda file: checkpoint_file.write(file, history, state, codes))
        unlink(self._outcome_file)
        # The state is saved: older files can be removed later.
        with suppress(CheckpointsError):
            files = self.files()
            # A newer file is damaged, or of a fenced writer: no trial resumes from it.
            kept = [path for path in files if path <= final][-KEPT:]
            for other in files:
                if other not in kept:
                    unlink(other)

    def save_outcome(self, saved: SavedOutcome) -> None:
        """Keep the trial's outcome until the folder is deleted; raise as `write` does."""
        content = json.dumps(asdict(saved)).encode()
        self._write_atomically(self._outcome_file, lambda file: file.write(content))

    def saved_outcome(self) -> SavedOutcome | None:
        """Return the outcome that was saved, unless the trial was trained further since."""
        try:
            with checkpoint_file.opened(self._outcome_file) as file:
                values = json.loads(file.read())
            history = history_of(values["history"])
            outcome, error, traceback = (
                Outcome(values["outcome"]),
                text(values["error"]),
                text(values["traceback"]),
            )
            value = None if values.get("value") is None else float(values["value"])
            results = plain_records(values.get("results", {}))
            saved = SavedOutcome(outcome, error, traceback, history, results, value)
        # Missing, incomplete or of another format: the trial resumes from its checkpoint and ends again.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        newest = self.files()[-1:]
        beyond = newest and newest[0] > self._file(len(history))
        return None if beyond or not outcome.counts else saved

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:06d}.npz"

    def _write_atomically(self, final: Path, content: Callable[[BinaryIO], object]) -> None:
        """Write a file completely or not at all, even in a power cut."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A fenced trainer may be writing the same epoch.
            with atomic_write(final) as partial, partial.open("wb") as file:
                content(file)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> HpoError:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(
                f"no space left for checkpoints in {self.path.parent}: free some and run the same"
                " command again; trials resume from their last checkpoint"
            )
        return CheckpointsError(
            f"a checkpoint cannot be written to {self.path} ({exc.strerror or exc}): fix that, or set"
            " HPO_CHECKPOINTS to another folder, and run the same command again"
        )

    def newest(
        self, warn: Callable[[str], None] = lambda _: None, only_code: str | None = None
    ) -> Checkpoint | None:
        """Return the newest complete checkpoint, or None; `warn` is called for each one that is not used.

        With `only_code`, those with epochs that code of another digest has trained are not used.

        Raises:
            CheckpointsError: the disk does not return the file.
            MemoryError: the file does not fit into memory.
        """
        for path in reversed(self.files()):
            try:
                found = checkpoint_file.read(path)
            except FileNotFoundError:
                # A fenced trainer deletes files that it considers old.
                continue
            except OSError as exc:
                raise CheckpointsError(
                    f"the checkpoint {path} cannot be read ({exc.strerror or exc}): fix that and run the same"
                    " command again, or delete the file to continue without it"
                ) from exc
            except MemoryError:
                raise
            # Damaged bytes make the reading libraries raise anything.
            except Exception as exc:  # noqa: BLE001
                warn(f"the checkpoint {path} is damaged ({exc}): using the one before, if there is one")
                continue
            if found is not None and only_code is not None and set(found.codes) != {only_code}:
                codes = ", ".join(code or "not recorded" for code in found.codes)
                warn(f"the checkpoint {path} is of other code ({codes}): not used (--code restart)")
                continue
            if found is not None:
                return found
            warn(f"the checkpoint {path} of version 0.1 does not name the epoch of its state: not used")
        return None

    def partial(self) -> list[Path]:
        """Return incomplete files, of trainers that were killed or are writing now."""
        return [path for path in self._entries() if path.name.endswith(PARTIAL)]

    def clear_partial(self) -> None:
        """Remove incomplete files; only the holder of the trial may do so."""
        for path in self.partial():
            unlink(path)

    def delete(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first.

        Raises:
            CheckpointsError: the folder cannot be listed.
        """
        return sorted(path for path in self._entries() if _CHECKPOINT.fullmatch(path.name))

    def _entries(self) -> list[Path]:
        # No glob: in some versions of Python it returns nothing after an error.
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise CheckpointsError(
                f"the checkpoints in {self.path} cannot be listed ({exc.strerror or exc}): fix that and run the same"
                " command again"
            ) from exc


def trial_folder(checkpoints: Path, study_folder: str, reservation_id: int) -> CheckpointFolder:
    """Return the folder of the trial with this reservation."""
    return CheckpointFolder(checkpoints / study_folder / f"trial-{reservation_id}")


def reservation_of(folder: Path) -> int | None:
    """Return the reservation of a trial's folder; None for another folder."""
    _, dash, reservation_id = folder.name.partition("trial-")
    return int(reservation_id) if dash and reservation_id.isdecimal() else None


def unlink(path: Path) -> None:
    """Remove a file that is no longer needed; errors do not matter."""
    with suppress(OSError):
        path.unlink()
