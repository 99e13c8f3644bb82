"""A lock that threads get in the order in which they have asked for it.

A thread that releases a lock of `threading` and asks for it again mostly gets it, although others wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHECK_SECONDS = 0.5
"""Time between two checks of a thread that waits."""


class FairLock:
    """A reentrant lock; a thread that waits for it may give up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # The thread that holds it, and those that wait, by their identifiers.
        self._threads: deque[int] = deque()

    @contextmanager
    def held(self, check: Callable[[], None]) -> Iterator[None]:
        """Hold it in this block; `check` is called at times while others do, and may raise to end the wait."""
        if self._is_held_here():
            yield
            return
        self._acquire(check)
        try:
            yield
        finally:
            self._leave()

    def _is_held_here(self) -> bool:
        with self._changed:
            return bool(self._threads) and self._threads[0] == threading.get_ident()

    def _acquire(self, check: Callable[[], None]) -> None:
        with self._changed:
            self._threads.append(threading.get_ident())
            try:
                while not self._changed.wait_for(self._is_held_here, CHECK_SECONDS):
                    check()
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        with self._changed:
            self._threads.remove(threading.get_ident())
            self._changed.notify_all()
