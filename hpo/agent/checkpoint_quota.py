"""Removes the checkpoints of finished trials, and keeps the others within the study's quota."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hpo.trainer.checkpoints import CheckpointFolder, CheckpointsError, token_of

EVICTED = "evicted-"
"""Begins the name of a folder that is being deleted."""


@dataclass(frozen=True)
class QuotaReport:
    """What enforcing a quota came to."""

    used_bytes: int
    freed_bytes: int


def enforce_quota(
    folder: Path,
    quota_bytes: int | None,
    tokens: Callable[[], tuple[Collection[int], Collection[int]]],
    while_waiting: Callable[[int, Callable[[], None]], bool],
) -> QuotaReport:
    """Delete what nobody needs, and more until a study's folder holds at most `quota_bytes` of checkpoints of trials.

    `tokens` says which trials are open, and which of those are running. `while_waiting` does something
    for a trial that no agent holds or can begin meanwhile, and says whether it did.
    First folders of finished trials go. Then the spare checkpoint of each trial, that
    of the ones that wait first. Then trials that wait, those with the fewest epochs first: they start
    again from scratch. The newest checkpoint of a running trial always stays.
    """
    found = _entries(folder)
    for left_behind in found:
        if left_behind.name.startswith(EVICTED):
            CheckpointFolder(left_behind).delete()
    folders = {token: path for path in found if (token := token_of(path))}
    # Asked after looking: a trial that begins meanwhile must not be taken for a finished one.
    open_tokens, running_tokens = tokens()
    used = sum(_size(path) for path in folders.values())
    before = used
    finished = [path for token, path in folders.items() if token not in open_tokens]
    waiting = {
        token: path for token, path in folders.items() if token in open_tokens and token not in running_tokens
    }
    running = [path for token, path in folders.items() if token in running_tokens]
    # Left where an agent died between telling and deleting, or by a trainer that was fenced.
    for path in finished:
        used -= _remove_folder(path)
    if quota_bytes is None:
        return QuotaReport(used, before - used)
    for token, path in waiting.items():
        # Of trainers that were killed. In a trial that runs, its own trainer has removed such.
        for half in _whole_or_none(CheckpointFolder(path).partial):
            size = _file_size(half)
            if while_waiting(token, partial(_delete, half)):
                used -= size
    for path in [*waiting.values(), *running]:
        for spare in _whole_or_none(CheckpointFolder(path).files)[:-1]:
            if used <= quota_bytes:
                return QuotaReport(used, before - used)
            used -= _remove_file(spare)
    for token, path in sorted(waiting.items(), key=lambda item: _newest_name(item[1])):
        if used <= quota_bytes:
            break
        # Renamed while nobody can begin the trial, deleted when that no longer matters.
        evicted = path.with_name(f"{EVICTED}{uuid.uuid4().hex}")
        if while_waiting(token, partial(_rename, path, evicted)):
            used -= _remove_folder(evicted)
    return QuotaReport(used, before - used)


def _newest_name(folder: Path) -> str:
    """The name of its newest checkpoint, which grows with the epoch; empty where there is none."""
    return max((file.name for file in _whole_or_none(CheckpointFolder(folder).files)), default="")


def _rename(path: Path, to: Path) -> None:
    # Repeated when the answer to a commit was lost.
    with suppress(FileNotFoundError):
        path.rename(to)


def _whole_or_none(listed: Callable[[], list[Path]]) -> list[Path]:
    with suppress(CheckpointsError):
        return listed()
    return []


def _entries(folder: Path) -> list[Path]:
    """What is in it; nothing where it has gone, or does not say: another agent may be deleting it."""
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _size(folder: Path) -> int:
    return sum(_file_size(path) for path in _entries(folder))


def _file_size(path: Path) -> int:
    # A trainer may delete an old checkpoint while we look, on another host too.
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _remove_folder(folder: Path) -> int:
    size = _size(folder)
    CheckpointFolder(folder).delete()
    return size


def _remove_file(path: Path) -> int:
    size = _file_size(path)
    _delete(path)
    return size - _file_size(path)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
