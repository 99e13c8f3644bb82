"""Work of the executor: batches that a lane submits, and requests about its state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from numpy.typing import NDArray

from objectives.errors import LaneEndedError

T = TypeVar("T")


class LanesClosedError(RuntimeError):
    """The executor was closed, or has failed, while this lane trained."""


@dataclass(eq=False)
class Chunk:
    """Batches of one lane, arrays (k, batch, …), trained in order."""

    arrays: Sequence[NDArray[Any]]
    done: int = 0
    metrics: Future[Mapping[str, Any]] = field(default_factory=Future)
    """Those of all steps and rows of the call that has trained its last batch (steps, rows)."""
    place: tuple[int, int] = (0, 0)
    """Step and row of its last batch among them."""

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def left(self) -> int:
        return len(self) - self.done


NextBatch = tuple[Chunk, int]
"""A batch to be trained: its chunk, and its index there."""


@dataclass(eq=False)
class Request:
    """Something to do between two steps, in the executor's thread."""

    action: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class Slot:
    """What the executor knows of a lane."""

    index: int
    taken: bool = False
    """Whether a thread trains in it."""
    stacked: bool = False
    """Whether the lane's state is in the stack, not in its model, as soon as all requests are fulfilled."""
    row: int | None = None
    """Index of its state in the stack, known to the executor's thread alone."""
    chunks: deque[Chunk] = field(default_factory=deque)
    ended: Future[None] = field(default_factory=Future)
    """Done once its trial has been ended from outside, which what it waits for need not notice."""

    def check_ended(self) -> None:
        """Raise LaneEndedError if its trial has been ended."""
        if self.ended.done():
            raise LaneEndedError

    def wait(self, future: Future[T]) -> T:
        """Return the result of a future, or raise its error.

        Raises:
            LaneEndedError: the trial has been ended. A compilation, which nothing interrupts, goes on for other lanes.
        """
        if not future.done():
            either: tuple[Future[Any], ...] = (future, self.ended)
            wait(either, return_when=FIRST_COMPLETED)
            self.check_ended()
        return future.result()

    @property
    def used(self) -> bool:
        """Whether a trial has it, or its state is in the stack."""
        return self.taken or self.stacked or bool(self.chunks)

    def batches(self, most: int) -> list[NextBatch]:
        """Return the next batches, up to `most`, from as many chunks as they take."""
        following = ((chunk, index) for chunk in self.chunks for index in range(chunk.done, len(chunk)))
        return list(islice(following, most))
