"""Removes the checkpoints of finished trials, and keeps the others within the study's quota."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from hpo.trainer.checkpointing.checkpoints import CheckpointFolder, CheckpointsError, reservation_of, unlink
from storage.reservations import OpenReservations

EVICTED = "evicted-"
"""Prefix of the names of folders that are being deleted."""


def enforce_quota(
    folder: Path,
    quota_bytes: int | None,
    reservations: Callable[[], OpenReservations],
    while_waiting: Callable[[int, Callable[[], None]], bool],
    while_ended: Callable[[Collection[int], Callable[[Collection[int]], None]], None],
) -> int:
    """Delete checkpoints until a study's folder holds at most `quota_bytes` of them; return the bytes left.

    `while_waiting` calls a function if no agent holds a trial, or can begin it meanwhile, and returns whether it did.
    `while_ended` calls a function on those of the given trials that are not open, while none of them can be reopened.
    The folders of finished trials are deleted first, but for those that may go on if `--epochs` is raised, which follow
    where space is short; then the spare checkpoint of each trial, idle trials first; then paused trials, the least
    promising first, and waiting ones, those with the fewest epochs first: they start from scratch. The newest
    checkpoint of a running trial always stays.
    """
    # A link in place of the folder leads to files of others.
    found = [] if folder.is_symlink() else entries(folder)
    for left_behind in found:
        if left_behind.name.startswith(EVICTED):
            CheckpointFolder(left_behind).delete()
    folders = {reservation_id: path for path in found if (reservation_id := reservation_of(path))}
    # After listing the folders: a trial that begins meanwhile must not pass for a finished one.
    still_open = reservations()
    used = sum(_size(path) for path in folders.values())
    kept = {one: folders[one] for one in still_open.kept if one in folders}
    finished = {one: path for one, path in folders.items() if one not in still_open and one not in kept}
    idle = {
        reservation_id: path for reservation_id, path in folders.items() if reservation_id in still_open.idle
    }
    running = [path for reservation_id, path in folders.items() if reservation_id in still_open.running]
    # Left by an agent that died before deleting them, or by a fenced trainer.
    spares = (
        spare for folder in kept.values() for spare in _whole_or_none(CheckpointFolder(folder).files)[:-1]
    )
    used -= _evict(finished, while_ended)
    for path in spares:
        used -= _remove(path)
    if quota_bytes is None:
        return used
    for reservation_id, path in kept.items():
        used -= _evict({reservation_id: path}, while_ended) if used > quota_bytes else 0
    for reservation_id, path in idle.items():
        # Partial files of killed trainers; a running trial's own trainer has removed its own.
        for half in _whole_or_none(CheckpointFolder(path).partial):
            size = _size(half)
            if while_waiting(reservation_id, partial(unlink, half)):
                used -= size
    for path in [*idle.values(), *running]:
        for spare in _whole_or_none(CheckpointFolder(path).files)[:-1]:
            if used <= quota_bytes:
                return used
            used -= _remove(spare)
    waiting = sorted(still_open.waiting & idle.keys(), key=lambda one: _newest_name(idle[one]))
    for reservation_id in (*(one for one in still_open.paused if one in idle), *waiting):
        path = idle[reservation_id]
        if used <= quota_bytes:
            break
        # Renamed while no agent can begin the trial, deleted afterwards without a lock.
        evicted = _evicted(path)
        if while_waiting(reservation_id, partial(_rename, path, evicted)):
            used -= _remove(evicted)
    return used


def _newest_name(folder: Path) -> str:
    """Return the name of its newest checkpoint, which grows with the epoch; empty without one."""
    return max((file.name for file in _whole_or_none(CheckpointFolder(folder).files)), default="")


def _evict(
    folders: Mapping[int, Path],
    while_ended: Callable[[Collection[int], Callable[[Collection[int]], None]], None],
) -> int:
    """Delete the folders of ended trials, by reservation, except those that were reopened; return the bytes freed.

    They are renamed while none can be reopened, deleted afterwards without a lock.
    """
    if not folders:
        return 0
    evicted = {reservation_id: _evicted(path) for reservation_id, path in folders.items()}

    def rename(ended: Collection[int]) -> None:
        for reservation_id in ended:
            _rename(folders[reservation_id], evicted[reservation_id])

    while_ended(folders.keys(), rename)
    return sum(map(_remove, evicted.values()))


def _evicted(path: Path) -> Path:
    return path.with_name(f"{EVICTED}{uuid.uuid4().hex}")


def _rename(path: Path, to: Path) -> None:
    # Already renamed if the answer to a commit was lost; a folder that this user may not rename stays.
    with suppress(OSError):
        path.rename(to)


def _whole_or_none(listed: Callable[[], list[Path]]) -> list[Path]:
    with suppress(CheckpointsError):
        return listed()
    return []


def entries(folder: Path) -> list[Path]:
    """Return its entries but links, which lead to files of others.

    It is empty if it cannot be listed: it does not exist yet, or another agent is deleting it.
    """
    with suppress(OSError):
        return [path for path in folder.iterdir() if not path.is_symlink()]
    return []


def _size(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files."""
    # A trainer, on another host too, may delete an old checkpoint meanwhile.
    with suppress(OSError):
        return sum(map(_size, entries(path))) if path.is_dir() else path.stat().st_size
    return 0


def _remove(path: Path) -> int:
    """Delete a file or a folder as far as possible; return the bytes freed."""
    before = _size(path)
    if path.is_dir():
        CheckpointFolder(path).delete()
    else:
        unlink(path)
    return before - _size(path)
