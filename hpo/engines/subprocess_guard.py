"""Run a command that ends with its parent: `python -m hpo.engines.subprocess_guard COMMAND…`.

Standard input is the guard pipe. When it closes for any reason, the command gets a SIGTERM, so
that an agent releases its leases; after `GRACE_SECONDS` it is killed. An `i` on the pipe sends a SIGINT.
The exit code is the command's, or 128 + the signal that ended it.

Two processes are involved: the first only waits for the second, which runs the command in a session of
its own. Ray kills the child processes of a worker that ends, but does not reach the second process, which
then terminates the command gracefully.
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
"""Grace period after SIGTERM; an agent ends within 10 s."""

INTERRUPT = b"i"


def main() -> int:
    """Run the command in `sys.argv`."""
    # Ray's threads block SIGINT, and child processes inherit the mask.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    return _supervise(sys.argv[1:])


def _supervise(arguments: Sequence[str]) -> int:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Signals are forwarded. The command would inherit an ignored SIGINT, which is ignored in all processes of
    # a node that was started in the background of a script.
    signal.signal(signal.SIGTERM, lambda *_: command.terminate())
    signal.signal(signal.SIGINT, lambda *_: command.send_signal(signal.SIGINT))
    command = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    guard = sys.stdin.fileno()
    watched = [guard, wake_read]
    kill_at = float("inf")
    while command.poll() is None:
        timeout = min(max(kill_at - time.monotonic(), 0.0), 3600.0)
        ready, _, _ = select.select(watched, [], [], timeout)
        if wake_read in ready:
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
        if guard in ready:
            data = os.read(guard, 1)
            if data == INTERRUPT:
                command.send_signal(signal.SIGINT)
            elif not data:
                watched.remove(guard)
                command.terminate()
                kill_at = time.monotonic() + GRACE_SECONDS
        if time.monotonic() >= kill_at:
            command.kill()
    code = command.returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
