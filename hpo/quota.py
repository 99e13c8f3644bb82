"""Removes the checkpoints of finished trials, and keeps the others within the study's quota."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.checkpoints import CheckpointFolder, study_folder, token_of


@dataclass(frozen=True)
class QuotaReport:
    """What enforcing a quota came to."""

    used_bytes: int
    freed_bytes: int


def enforce_quota(
    checkpoints: Path,
    study: str,
    quota_bytes: int | None,
    tokens: Callable[[], tuple[Collection[int], Collection[int]]],
) -> QuotaReport:
    """Delete what nobody needs, and more until the study's folder holds at most `quota_bytes`.

    `tokens` says which trials are open, and which of those are running.
    First folders of finished trials go. Then the spare checkpoint of each trial, that
    of the ones that wait first. Then trials that wait, those with the fewest epochs first: they start
    again from scratch. The newest checkpoint of a running trial always stays.
    """
    folders = {
        token: path for path in study_folder(checkpoints, study).glob("trial-*") if (token := token_of(path))
    }
    # Asked after looking: a trial that begins meanwhile must not be taken for a finished one.
    open_tokens, running_tokens = tokens()
    used = sum(_size(path) for path in folders.values())
    before = used
    finished = [path for token, path in folders.items() if token not in open_tokens]
    waiting = [
        path for token, path in folders.items() if token in open_tokens and token not in running_tokens
    ]
    running = [path for token, path in folders.items() if token in running_tokens]
    # Left where an agent died between telling and deleting, or by a trainer that was fenced.
    for path in finished:
        used -= _remove_folder(path)
    if quota_bytes is None:
        return QuotaReport(used, before - used)
    for path in [*waiting, *running]:
        for spare in CheckpointFolder(path).files()[:-1]:
            if used <= quota_bytes:
                return QuotaReport(used, before - used)
            used -= _remove_file(spare)
    for path in sorted(waiting, key=lambda path: [file.name for file in CheckpointFolder(path).files()[-1:]]):
        if used <= quota_bytes:
            break
        used -= _remove_folder(path)
    return QuotaReport(used, before - used)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        # A trainer may delete an old checkpoint while we look.
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _remove_folder(folder: Path) -> int:
    size = _size(folder)
    CheckpointFolder(folder).delete()
    return size


def _remove_file(path: Path) -> int:
    with suppress(FileNotFoundError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0
