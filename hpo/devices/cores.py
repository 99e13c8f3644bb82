"""Claims on CPU cores, so that independent agents divide the cores of a host."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpo.errors import FileNotWritableError


def claim_cores(count: int, cores: Sequence[int], folder: Path | None = None) -> tuple[int, ...]:
    """Claim `count` of `cores` until this process ends, unclaimed ones first.

    A claim is a file lock, which the kernel releases however the process ends. If too few cores are
    free, claimed ones are shared: more trials than cores are slow, but allowed.

    Raises:
        FileNotWritableError: the folder of the claims is not usable.
    """
    # Not HPO_HOME: the agents of a host may have different ones.
    place = folder or Path(tempfile.gettempdir()) / f"hpo-cores-{os.geteuid()}"
    ours: list[int] = []
    others: list[int] = []
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        for core in cores:
            if len(ours) == count:
                break
            # Never closed and not inherited: the claim belongs to this process.
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
            f"cannot claim cores in {place} ({exc.strerror}): leave --cores out"
        ) from exc
    if len(ours) < count and others:
        # A different start for each process spreads the shared cores.
        start = os.getpid() % len(others)
        ours += (others[start:] + others[:start])[: count - len(ours)]
    return tuple(sorted(ours))
