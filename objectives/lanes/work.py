"""Work of the executor: batches that a lane submits, and requests about its state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


class LanesClosedError(RuntimeError):
    """The executor was closed, or has failed, while this lane trained."""


@dataclass(eq=False)
class Chunk:
    """Batches of one lane, arrays (k, batch, …), trained in order."""

    arrays: Sequence[NDArray[Any]]
    done: int = 0
    metrics: Future[Mapping[str, Any]] = field(default_factory=Future)
    """Those of all lanes (lanes,) after its last batch."""
    row: int = 0
    """Index of its lane among them."""

    @property
    def left(self) -> int:
        return len(self.arrays[0]) - self.done


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

    @property
    def used(self) -> bool:
        """Whether a trial has it, or its state is in the stack."""
        return self.taken or self.stacked or bool(self.chunks)
