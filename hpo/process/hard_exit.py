"""A hard deadline after a signal, even if the main thread is blocked in a call to an unreachable database."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATE_SECONDS = 9.5
"""Deadline after a SIGTERM: containers are killed after 10 s."""

SECOND_INTERRUPT_SECONDS = 3.0
"""Deadline after a second Ctrl-C: enough to release the trials."""

INTERRUPTED = 130


@contextmanager
def exit_deadline(seconds: float = TERMINATE_SECONDS) -> Iterator[None]:
    """Exit the process at most `seconds` after a SIGTERM or SIGHUP that arrives in this block.

    A second Ctrl-C exits within `SECOND_INTERRUPT_SECONDS`.

    Python runs signal handlers only when a call into the database driver returns, which may take half a
    minute. The interpreter writes a byte for each signal at once, and a thread reads it here.
    Trainers notice that their pipes closed and stop at their last checkpoint; leases expire.
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
                left = SECOND_INTERRUPT_SECONDS
            if left is not None and not done.wait(left):
                os._exit(INTERRUPTED)
        os.close(wake_read)

    before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="exit-deadline", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        done.set()
        os.close(wake_write)
