"""Kill a trainer and all that it started as soon as its agent is gone.

The trainer's listener thread notices it on its own pipe, but only while native code lets another
thread run. Here the kernel itself sends a fatal signal when the last writer of a pipe has closed it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys

from hpo.process.process_groups import kill_group

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the reaper of its descendants' orphans. Linux only.

    Otherwise they go to process 1, which in many containers is the agent and does not reap them.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def arm(read_end: int) -> None:
    """Kill this process group when the other end of the pipe is closed.

    Only the agent holds that end, and it never writes. Outside Linux only the listener thread does this.
    """
    if not sys.platform.startswith("linux"):
        return
    # A new open file: the owner of SIGIO belongs to the open file, which all forks of a template share.
    own = os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):
        # It was closed before the signal was requested.
        kill_group(os.getpid())
        os._exit(1)
