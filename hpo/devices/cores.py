"""Processor cores of this host: those that an agent may use, and its claims among agents of the host."""

from __future__ import annotations

import fcntl
import math
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.devices.cgroups import cpu_quota
from hpo.errors import FileNotWritableError

NAMESPACES = Path("/proc/self/ns")

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The host's own, whose number is fixed in Linux."""
_FIRST_MOUNT_NAMESPACES = {"mnt:[4026531832]", "mnt:[4026531840]", "mnt:[4026531841]"}
"""The host's own: fixed since Linux 6.18, one of the first two that are given out before."""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Cores of an agent, which its slots divide."""

    usable: tuple[int, ...]
    """Numbers of the cores that this process may run on."""
    count: int
    """Number of cores whose time it may use, at most that of the usable ones."""
    pinned: bool = True
    """Whether each slot gets cores of its own.

    A quota limits the time on all cores and chooses none, and containers of one host cannot see which cores the others
    choose. So slots within a quota are not pinned: the kernel moves them to idle cores.
    """


def usable_cores() -> Cores:
    """Return the cores that this process may run on, and how many a quota of processor time allows, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        usable = tuple(sorted(os.sched_getaffinity(0)))
    else:
        usable = tuple(range(os.cpu_count() or 1))
    quota = cpu_quota()
    if quota is None or quota >= len(usable):
        return Cores(usable=usable, count=len(usable))
    return Cores(usable=usable, count=max(1, math.ceil(round(quota, 2))), pinned=False)


def cores_of_agent(count: int, cores: Cores) -> Cores:
    """Return `count` of `cores`, claimed until this process ends where other agents can see the claim.

    Raises:
        FileNotWritableError: they cannot be claimed.
    """
    count = min(count, cores.count)
    if not cores.pinned or not _claims_are_seen():
        return Cores(usable=cores.usable, count=count, pinned=False)
    claimed = claim_cores(count, cores.usable)
    return Cores(usable=claimed, count=len(claimed))


def _claims_are_seen() -> bool:
    """Whether all agents of the host share a file system: not in a container, which has namespaces of its own."""
    with suppress(OSError):
        processes, mounts = (str((NAMESPACES / name).readlink()) for name in ("pid", "mnt"))
        return processes == _FIRST_PID_NAMESPACE and mounts in _FIRST_MOUNT_NAMESPACES
    # No Linux, so no container.
    return True


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
        found = claims.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise FileNotWritableError(
                f"cannot claim cores in {claims} (other users may write there): remove it, set TMPDIR to a folder of "
                "your own for every agent, or leave --cores out"
            )
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
