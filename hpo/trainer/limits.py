"""Limits of the host on open files and processes, which many trainers may exceed."""

from __future__ import annotations

import os
import resource

from hpo.devices import cgroups
from hpo.errors import UsageError

OWN_FILES = 100
"""Number of files that an agent opens apart from the pipes to its trainers."""

FILES_PER_TRAINER = 2
"""Number of files that an agent opens for a trainer: both ends of its pipe until it is forked."""

THREADS_PER_TRAINER = 2
"""Least number of threads of a trainer; each counts as a process."""


def check_limits(trainers: int) -> None:
    """Allow as many open files as trainers need; check that they, and as many processes, are allowed.

    Raises:
        UsageError: a limit is too low.
    """
    _allow_files(OWN_FILES + FILES_PER_TRAINER * trainers, trainers)
    needed, left = THREADS_PER_TRAINER * trainers, _processes_left()
    if left is not None and needed > left:
        raise UsageError(
            f"{trainers} worker slots start at least {needed} processes and threads, and {max(left, 0)} are allowed"
            f" here: raise the limit (ulimit -u, or pids of the container), or use {_fewer(left, THREADS_PER_TRAINER)}"
        )


def _allow_files(needed: int, trainers: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(
            f"{trainers} worker slots need {needed} open files, and {hard} are allowed here: raise the limit"
            f" (ulimit -Hn {needed}), or use {_fewer(hard - OWN_FILES, FILES_PER_TRAINER)}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _processes_left() -> int | None:
    """Return the number of processes and threads that may be started; None if nothing limits them."""
    left = [cgroups.processes_left()]
    # The kernel exempts root, and counts all processes of the user, whose number changes all the time.
    if os.geteuid() != 0:
        soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        left.append(None if soft == resource.RLIM_INFINITY else soft)
    return min((number for number in left if number is not None), default=None)


def _fewer(room: int, each: int) -> str:
    return f"at most {max(room // each, 1)} slots"
