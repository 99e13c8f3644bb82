"""Ends a trainer, and whatever it has started, the moment its agent is gone.

The trainer's listener thread sees the same on its own pipe, but only while native code lets another
thread run. Here the kernel itself sends a deadly signal when the last writer of a pipe has closed it.
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
    """Have this process inherit what its children leave behind, so that it can be waited for.

    Else it goes to process 1, which in many containers is the agent, and waits for nobody. Linux only.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def arm(read_end: int) -> None:
    """End this process group once nobody holds the other end of the pipe any more.

    The agent alone holds it, and never writes. Where this is not Linux, the listener must do.
    """
    if not sys.platform.startswith("linux"):
        return
    # Opened anew: whom to signal belongs to the open file, which all forks of a template share.
    own = os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):
        # It had closed before anybody asked for the signal.
        kill_group(os.getpid())
        os._exit(1)
