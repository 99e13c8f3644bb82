"""Ends the process in time after a signal, though its main thread be stuck in a call to a database that is away."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 9.5
"""After a SIGTERM: containers are killed after 10."""

IMPATIENT_SECONDS = 3.0
"""After a second Ctrl-C: what is given back is given back in that time."""

INTERRUPTED = 130


@contextmanager
def ending_in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Within this block a SIGTERM or a SIGHUP ends the process after so long at the latest.

    A second Ctrl-C does so within `IMPATIENT_SECONDS`.

    Python's own handlers wait until a call into the database driver returns, which may take half a
    minute. The byte that the interpreter writes for a signal does not wait, and a thread reads it.
    Trainers see their pipes close and end at their last checkpoint; leases run out.
    """
    done = threading.Event()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)

    def watch() -> None:
        interrupts = 0
        while number := os.read(wake_read, 1):
            interrupts += number[0] == signal.SIGINT
            left = seconds if number[0] in (signal.SIGTERM, signal.SIGHUP) else None
            if interrupts >= 2:
                left = IMPATIENT_SECONDS
            if left is not None and not done.wait(left):
                os._exit(INTERRUPTED)
        os.close(wake_read)

    before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="last-resort", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        done.set()
        os.close(wake_write)
