"""Work on many files in the threads of one process; Pillow and hashlib leave Python's lock while they compute."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

_CHUNK = 16
"""Number of files that a thread takes at a time."""


class Watch(Protocol):
    """Observer of long work, in the thread that has begun it; it may raise an exception to end the work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` pieces of a stage are complete; a total of 0 means that it waits."""


def ignore(stage: str, done: int, total: int) -> None:
    """Observe nothing."""


def mapped(
    function: Callable[[_T], _R], items: Sequence[_T], stage: str, watch: Watch
) -> Iterator[tuple[_T, _R]]:
    """Yield each item with its result, in order.

    Raises:
        Exception: the first that `function` or `watch` raises; work that has not begun is dropped.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chunks = iter([items[first : first + _CHUNK] for first in range(0, len(items), _CHUNK)])

    def work(chunk: Sequence[_T]) -> list[_R]:
        return [function(item) for item in chunk]

    done = 0
    # Pillow warns of odd metadata. Here, because the filters belong to all threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads, "images") as pool:
        warnings.simplefilter("ignore")
        running: deque[tuple[Sequence[_T], Future[list[_R]]]] = deque()
        try:
            watch(stage, 0, len(items))
            for chunk in islice(chunks, 2 * threads):
                running.append((chunk, pool.submit(work, chunk)))
            while running:
                chunk, future = running.popleft()
                results = future.result()
                for following in islice(chunks, 1):
                    running.append((following, pool.submit(work, following)))
                yield from zip(chunk, results, strict=True)
                done += len(chunk)
                watch(stage, done, len(items))
        finally:
            pool.shutdown(cancel_futures=True)
