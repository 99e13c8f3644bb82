"""Two transactions that overlap in a known way: the second runs while the first has done its work and not committed.

Threads that are merely started together meet in the few microseconds that matter once in a thousand times. Here
every pair does, and what the second does is known: it waits for the first, or it does not see its work.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Generic, TypeVar

from sqlalchemy import Connection, text

from storage.attempts import LeaseLostError
from storage.engine import Database

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Overlap(Generic[T, U]):
    """Results of two transactions."""

    first: T
    second: U | LeaseLostError
    waited: bool
    """Whether the second waited until the first had committed."""


def overlap(
    database: Database, first: Callable[[Connection], T], second: Callable[[Connection], U]
) -> Overlap[T, U]:
    """Run `second` on a connection of its own in the midst of `first`, which commits once it waits or has ended."""
    began: Queue[int] = Queue()

    def announced(connection: Connection) -> U:
        began.put(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        return second(connection)

    def run() -> U | LeaseLostError:
        try:
            return database.transaction(announced)
        except LeaseLostError as error:
            return error

    with ThreadPoolExecutor(1) as pool:
        with database.engine.begin() as connection:
            done = first(connection)
            other = pool.submit(run)
            waited = _waits(connection, began.get(timeout=10), other)
        return Overlap(done, other.result(), waited)


def _waits(connection: Connection, backend: int, other: Future[U]) -> bool:
    """Whether the other transaction comes to wait for this one, rather than to its end."""
    held_up = text("SELECT pg_backend_pid() = ANY(pg_blocking_pids(:other))")
    while not other.done():
        if connection.execute(held_up, {"other": backend}).scalar_one():
            return True
    return False
