"""Runs a command that ends with whoever started it: `python -m hpo.engines.subprocess_guard COMMAND…`.

Standard input is the leash. When it closes, however that came about, the command gets a SIGTERM, so
that an agent gives its leases back; after `GRACE_SECONDS` it is killed. An `i` on it passes a SIGINT on.
Its exit code is the command's, 128 + the signal that ended it.

Two processes: the one that was started only waits for the other, which holds the command in a session of
its own. Ray kills what a worker that ends has started; it does not reach the second, which then ends the
command as it should be ended.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

GRACE_SECONDS = 15.0
"""An agent ends within 10 s of a SIGTERM."""

INTERRUPT = b"i"


def main() -> int:
    """Run the command in `sys.argv`."""
    # Ray's threads block SIGINT, and the mask is inherited by every process that they start.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    holder = os.fork()
    if holder:
        return os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1])
    os.setsid()
    return _hold(sys.argv[1:])


def _hold(arguments: Sequence[str]) -> int:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Whoever ends us means the command. It would ignore a SIGINT that is ignored here, as it is in all that a
    # node starts which was itself started in the background of a script.
    signal.signal(signal.SIGTERM, lambda *_: command.terminate())
    signal.signal(signal.SIGINT, lambda *_: command.send_signal(signal.SIGINT))
    command = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    leash = sys.stdin.fileno()
    watched = [leash, wake_read]
    kill_at = float("inf")
    while command.poll() is None:
        timeout = min(max(kill_at - time.monotonic(), 0.0), 3600.0)
        ready, _, _ = select.select(watched, [], [], timeout)
        if wake_read in ready:
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
        if leash in ready:
            said = os.read(leash, 1)
            if said == INTERRUPT:
                command.send_signal(signal.SIGINT)
            elif not said:
                watched.remove(leash)
                command.terminate()
                kill_at = time.monotonic() + GRACE_SECONDS
        if time.monotonic() >= kill_at:
            command.kill()
    code = command.returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
