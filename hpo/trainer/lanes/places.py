"""State that the lanes of a process share: the program of all lanes of one shape, or nothing but the process."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from hpo.trainer.memory import give_back
from objectives.base import Objective, Params


class NotInLanesError(Exception):
    """A configuration cannot be trained next to others in one process; the message is the reason."""


class Places(Protocol):
    """Lanes of a process by the shapes of what they train."""

    broken: bool
    """Whether the device has failed in a way that may last as long as this process."""

    def drop_idle(self) -> None:
        """Give back the memory of what is kept for attempts to come."""
        ...

    def announced(self, index: int) -> AbstractContextManager[object]:
        """Return the context of an attempt that will enter a lane, if it trains: programs are compiled for it, too."""
        ...

    def shape(self, objective: Objective, params: Params, epochs: int | None) -> str:
        """Return the shape of a configuration: those of one shape are trained by one program.

        Raises:
            NotInLanesError: it is to be trained in a process of its own.
        """
        ...

    def lane(self, shape: str, index: int, ended: Future[None]) -> AbstractContextManager[object]:
        """Return the context in which the thread of a lane trains a configuration of this shape.

        Once `ended` has a result, the attempt is to leave it, also while it waits for something to be compiled.
        It raises a SharedFailureError if what the lanes of this shape share has failed.
        """
        ...


class Threads:
    """Lanes that are threads only, of objectives that need no program."""

    broken = False

    def drop_idle(self) -> None:
        give_back()

    def announced(self, index: int) -> AbstractContextManager[object]:  # noqa: ARG002
        return nullcontext()

    def shape(self, objective: Objective, params: Params, epochs: int | None) -> str:  # noqa: ARG002 - as any places
        return "any"

    def lane(
        self,
        shape: str,  # noqa: ARG002
        index: int,  # noqa: ARG002
        ended: Future[None],  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        return nullcontext()
