"""The lane that a thread trains in: the place of one trial among those that one program of JAX trains at a time.

Training asks the backend for its steps and its inference, as ever; in a lane, JAX gives those of the lane
(`objectives.lanes`). Importing this module imports neither Keras nor a backend.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from objectives.backend.fair_lock import FairLock

if TYPE_CHECKING:
    import keras

    from objectives.backend.base import Batch, Steps

Decision = TypeVar("Decision")


class Lane(ABC):
    """A lane as training sees it."""

    programs: Any
    """The `Programs` of the trials that this lane trains one after another."""
    width: int
    """Number of lanes."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no other lane's thread is, with this trial's generators of Python and NumPy."""

    @abstractmethod
    def admit(self, shape: str | None, make: Callable[[], keras.Model]) -> None:
        """Begin a trial whose program has this identity; `make` makes a compiled model of its own for the program.

        Raises:
            FreshProcessError: it has none, or another one than the trials of the other lanes.
        """

    @abstractmethod
    def decide(self, make: Callable[[], Decision]) -> Decision:
        """Return the first lane's decision of what has to be the same in all lanes, such as where examples lie."""

    @abstractmethod
    def training_steps(
        self, model: keras.Model, targets: NDArray[Any], batch: Batch | None, resident: Sequence[Any]
    ) -> Steps:
        """Return the steps of a compiled model, as `Backend.training_steps`; the metrics that it returns wait."""

    @abstractmethod
    def collect(self, model: keras.Model) -> None:
        """Give the model the state that its steps have reached."""

    @abstractmethod
    def forward(self, model: keras.Model, *, training: bool) -> Callable[..., Any]:
        """Return a compiled function of values of the trained variables, those of the others, and inputs.

        It returns outputs, or, in training, the other variables after it.
        """


_ALONE = FairLock()
"""Held by the thread of the lane whose generators of Python and NumPy are the process's."""
_current: ContextVar[Lane | None] = ContextVar("lane", default=None)


def current() -> Lane | None:
    """Return the lane that this thread trains in; None outside of lanes."""
    return _current.get()


@contextmanager
def entered(lane: Lane) -> Iterator[None]:
    """Let this thread train in a lane."""
    token = _current.set(lane)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def apart(check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Run a block while no lane's thread runs one, and leave the generators of Python and NumPy as they were.

    `check` is called while another thread runs one, and may raise to end the wait.
    """
    with _ALONE.held(check):
        before = random_state()
        try:
            yield
        finally:
            set_random(before)


def random_state() -> Any:
    """Return the states of the generators of Python and NumPy."""
    return random.getstate(), np.random.get_state()


def set_random(states: Any) -> None:
    """Set the generators of Python and NumPy to states that `random_state` has returned."""
    random.setstate(states[0])
    np.random.set_state(states[1])


def alone() -> AbstractContextManager[None]:
    """Return a context in which code that uses the process's random generators runs: alone among lanes."""
    lane = current()
    return nullcontext() if lane is None else lane.alone()
