"""Lanes: the places of several trials of one shape in one process, each trained by a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from objectives.backend import jax_steps
from objectives.backend import lane as current_lane
from objectives.backend.base import Arrays, Batch, Steps
from objectives.backend.lane import Decision
from objectives.lanes import policy, program
from objectives.lanes.executor import Executor
from objectives.lanes.inference import Inference
from objectives.lanes.shape import built_layers
from objectives.lanes.work import Chunk, Slot
from objectives.training.programs import Programs


class Lanes:
    """Trains up to `width` trials of one shape in one program of JAX.

    Each trial is trained by a thread, in a lane that no other trains in:

        with Lanes(width=4) as lanes:
            # in the thread of a trial
            with lanes.lane(0):
                objective.train(params, run)

    The first trial sets the shape. A trial of another one raises a FreshProcessError before its first epoch, and so
    does one whose shape cannot be told (`shape_of`). An error of one trial, or a loss that is not finite, ends this
    trial alone. If the program itself fails, as for want of memory, all trials raise `LanesClosedError` from its error.
    """

    def __init__(self, width: int, coming: Callable[[], int] = lambda: 0) -> None:
        """Make empty lanes in the process that trains; nothing is compiled before the first batch.

        `coming` returns the number of trials that are about to enter a lane here or of other shapes.
        """
        if width < 1:
            raise ValueError(f"a number of lanes is at least 1, not {width}")
        self.width = width
        self._executor = Executor(width, coming)
        self._inference = Inference()
        self._lanes = [_Lane(self._executor, self._inference, index) for index in range(width)]

    @property
    def shape(self) -> str | None:
        """Shape of the trials, as `shape_of` returns it; None before the first one."""
        return self._executor.shape

    @property
    def fullness(self) -> float:
        """Mean share of the lanes of its program that a step has trained, from 0 to 1; 0 before the first step."""
        return self._executor.fullness

    @contextmanager
    def lane(self, index: int, ended: Future[None] | None = None) -> Iterator[None]:
        """Let objectives train in lane `index` in this thread, one trial after another; then leave the lane empty.

        Another thread may end the trial by giving `ended` a result: it raises a LaneEndedError where it waits for other
        lanes, or for a program that is compiled. The others go on.

        Raises:
            ValueError: another thread trains in it.
            LanesClosedError: the lanes are closed.
        """
        lane, slot = self._lanes[index], self._executor.slots[index]
        self._executor.enter(slot, ended)
        try:
            with current_lane.entered(lane):
                policy.apply()
                yield
        except BaseException:
            lane.forget()
            raise
        finally:
            self._executor.release(slot)

    def close(self) -> None:
        """End the executor's thread; trials that still train raise `LanesClosedError`."""
        self._executor.close()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Metrics(Mapping[str, float]):
    """The metrics of one lane's batches; reading one waits for them.

    A device computes them after the call that they are of: an error of its shows here first, and is all lanes'.
    """

    def __init__(self, executor: Executor, slot: Slot, chunk: Chunk) -> None:
        self._executor, self._slot, self._chunk = executor, slot, chunk

    def _found(self) -> Mapping[str, Any]:
        return self._slot.wait(self._chunk.metrics)

    def __getitem__(self, name: str) -> float:
        found = self._found()[name]
        try:
            return float(np.asarray(found)[self._chunk.place])
        except Exception as exc:
            raise self._executor.fail(exc) from exc

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


class _Lane(current_lane.Lane):
    def __init__(self, executor: Executor, inference: Inference, index: int) -> None:
        self._executor, self._inference = executor, inference
        self._slot, self.width = executor.slots[index], executor.width
        self._random: Any = None
        self.forget()

    def forget(self) -> None:
        """Keep no model of a trial that was interrupted in any place."""
        # Keras counts names by thread; a lane's trials may come in several.
        self.programs, self._random = Programs(most=1, names={}, built=built_layers), None

    @contextmanager
    def alone(self) -> Iterator[None]:
        with current_lane.apart(self._slot.check_ended):
            if self._random is not None:
                current_lane.set_random(self._random)
            try:
                yield
            finally:
                self._random = current_lane.random_state()

    def admit(self, shape: str | None, make: Callable[[], keras.Model]) -> None:
        self._executor.admit(shape, make)
        self._inference.begin(make)

    def decide(self, make: Callable[[], Decision]) -> Decision:
        return self._executor.decide(make)

    def training_steps(
        self, model: keras.Model, targets: NDArray[Any], batch: Batch | None, resident: Sequence[Any]
    ) -> Steps:
        jax_steps.build(model, targets)
        self._executor.begin(targets, batch, resident)

        def steps(arrays: Arrays) -> Mapping[str, float]:
            chunk = Chunk(arrays)
            self._executor.submit(self._slot, chunk, lambda: (program.values(model), program.numbers(model)))
            return _Metrics(self._executor, self._slot, chunk)

        return steps

    def collect(self, model: keras.Model) -> None:
        found = self._executor.collect(self._slot)
        if found is not None:
            try:
                jax.block_until_ready(found)
            except Exception as exc:
                raise self._executor.fail(exc) from exc
            for part, new in zip(jax_steps.variables(model), found, strict=True):
                for variable, value in zip(part, new, strict=True):
                    variable.assign(value)

    def forward(self, model: keras.Model, *, training: bool) -> Callable[..., Any]:
        return self._inference.function(model, training=training, wait=self._slot.wait)
