"""Claims on processor cores, so that agents which know nothing of each other share a host's cores."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpo.errors import FileNotWritableError


def claim_cores(count: int, cores: Sequence[int], folder: Path | None = None) -> tuple[int, ...]:
    """`count` of `cores`, first those that no other process has claimed; held until this process ends.

    A claim is a lock on a file, which the kernel drops however the process ends. Where too few are
    free, claimed ones are shared: more trials than cores are slow, not forbidden.

    Raises:
        FileNotWritableError: the folder of the claims cannot be used.
    """
    # Not the home: agents of one host may have several.
    place = folder or Path(tempfile.gettempdir()) / f"hpo-cores-{os.geteuid()}"
    ours: list[int] = []
    others: list[int] = []
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        for core in cores:
            if len(ours) == count:
                break
            # Never closed here, and not inherited: the claim is this process's own.
            descriptor = os.open(
                place / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours.append(core)
            except BlockingIOError:
                os.close(descriptor)
                others.append(core)
    except OSError as exc:
        raise FileNotWritableError(
            f"claims on cores cannot be kept in {place} ({exc.strerror}): leave --cores out"
        ) from exc
    if len(ours) < count and others:
        # Not the first ones for every latecomer.
        start = os.getpid() % len(others)
        ours += (others[start:] + others[:start])[: count - len(ours)]
    return tuple(sorted(ours))
