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
    claims = folder or Path(tempfile.gettempdir()) / f"hpo-cores-{os.geteuid()}"
    chosen: list[int] = []
    claimed: list[int] = []
    try:
        claims.mkdir(mode=0o700, exist_ok=True)
        for core in cores:
            if len(chosen) == count:
                break
            # Never closed and not inherited: the claim belongs to this process.
            descriptor = os.open(
                claims / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                chosen.append(core)
            except BlockingIOError:
                os.close(descriptor)
                claimed.append(core)
    except OSError as exc:
        raise FileNotWritableError(
            f"cannot claim cores in {claims} ({exc.strerror}): leave --cores out"
        ) from exc
    if len(chosen) < count and claimed:
        # A different start for each process spreads the shared cores.
        start = os.getpid() % len(claimed)
        chosen += (claimed[start:] + claimed[:start])[: count - len(chosen)]
    return tuple(sorted(chosen))
