"""Keeps the checkpoints of a study within its quota, at the smallest loss."""

from __future__ import annotations

from collections.abc import Collection
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
    quota_bytes: int,
    open_tokens: Collection[int],
    running_tokens: Collection[int],
) -> QuotaReport:
    """Delete until the study's folder holds at most `quota_bytes`.

    First what nobody needs: folders of finished trials. Then the spare checkpoint of each trial, that
    of the ones that wait first. Then trials that wait, those with the fewest epochs first: they start
    again from scratch. The newest checkpoint of a running trial always stays.
    """
    folders = {
        token: path for path in study_folder(checkpoints, study).glob("trial-*") if (token := token_of(path))
    }
    used = sum(_size(path) for path in folders.values())
    before = used
    finished = [path for token, path in folders.items() if token not in open_tokens]
    waiting = [
        path for token, path in folders.items() if token in open_tokens and token not in running_tokens
    ]
    running = [path for token, path in folders.items() if token in running_tokens]
    # A finished trial's folder is only left where an agent died between telling and deleting.
    for path in finished:
        used -= _remove_folder(path)
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
