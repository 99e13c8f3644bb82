"""The number of lanes that is worth it on a device: measured by training a few steps with 1, 2, 4, … of them.

What is measured is what trains: a trial alone as in a process of its own, and lanes as their executor calls them.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from objectives import backend
from objectives.backend.base import Arrays, Batch, Steps
from objectives.backend.lane import Decision, Lane, entered
from objectives.base import Objective, Params
from objectives.device import Device
from objectives.lanes.inference import Inference
from objectives.lanes.program import BLOCK_STEPS, LaneProgram
from objectives.lanes.rates import MOST_LANES, Measured, best, grows, widths
from objectives.lanes.shape import NotLanedError, shape_of
from objectives.local_run import LocalRun
from objectives.training.programs import Programs

MEASURED_SECONDS = 0.5
MEASURED_CALLS = 16
"""A number of lanes is measured for about so many seconds or calls, whichever end first, after its compilation."""
MOST_BATCHES = 4
"""Number of batches of a call of a trial alone, on a processor."""


@dataclass(frozen=True)
class Choice:
    """The number of lanes to use, and those that were measured for it."""

    width: int
    measured: Sequence[Measured]


def best_width(
    objective: Objective, params: Params, *, device: Device | None = None, most: int = MOST_LANES
) -> Choice:
    """Return the number of lanes at which the images per second stop growing, after `prepare`.

    Raises:
        NotLanedError: a trial with these parameters cannot train in a lane.
        Exception: as training one alone, such as an error for want of memory with a single lane.
    """
    found = list(measurements(objective, params, device=device, most=most))
    return Choice(best(found), found)


def measurements(
    objective: Objective, params: Params, *, device: Device | None = None, most: int = MOST_LANES
) -> Iterator[Measured]:
    """Yield the speed of a trial alone, then of 2, 4, … lanes that train a few of its batches each, up to `most`.

    It ends where twice as many are hardly faster or do not fit into memory. Each number is compiled anew, which takes
    seconds.

    Raises:
        NotLanedError: a trial with these parameters cannot train in a lane.
        Exception: as training one alone, such as an error for want of memory with a single lane.
    """
    device = device or Device()
    shape_of(objective, params, device=device)
    probe, found = probed(objective, params, device), list[Measured]()
    for width in widths(most):
        try:
            found.append(measured(probe, width))
        except Exception as exc:
            if not found or not backend.is_out_of_memory(exc):
                raise
            return
        yield found[-1]
        if not grows(found) or _exceeds(found, device):
            return


def _exceeds(found: Sequence[Measured], device: Device) -> bool:
    """Return whether twice as many lanes as the last ones would need more memory than the device has."""
    limit = _memory().get("bytes_limit") if device.gpu is not None else device.host_memory_bytes
    used = found[-1].bytes_in_use
    before = found[-2].bytes_in_use if len(found) > 1 else None
    if limit is None or used is None:
        return False
    # The examples and the first program's memory do not double.
    return bool(used + (2 * (used - before) if before is not None else 0) > limit)


def _memory() -> dict[str, int]:
    return jax.local_devices()[0].memory_stats() or {}


def _used() -> int | None:
    """Return the largest memory of the device in use so far, or of this process where it is the host's."""
    if jax.default_backend() != "cpu":
        return _memory().get("peak_bytes_in_use")
    unit = 1024 if sys.platform.startswith("linux") else 1
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(probe: Probe, width: int) -> Measured:
    """Return the speed of a number of lanes, compiled anew, all with the first batches of a trial; 1: without lanes."""
    call, images = _alone(probe) if width == 1 else _in_lanes(probe, width)
    # Compiled, and once more, because the second call finds the state as the first has left it.
    for _ in range(2):
        call()
    began_at, calls = time.perf_counter(), 0
    while calls < MEASURED_CALLS and time.perf_counter() < began_at + MEASURED_SECONDS:
        call()
        calls += 1
    seconds = (time.perf_counter() - began_at) / calls
    del call
    gc.collect()
    return Measured(width, images / seconds, _used())


def _alone(probe: Probe) -> tuple[Callable[[], object], int]:
    """Return a call that trains one model as a process of its own does, and its number of images."""
    steps = backend.current().training_steps(probe.make(), probe.targets, probe.batch, probe.resident)
    arrays = probe.arrays
    if jax.default_backend() == "cpu":
        # Trained one by one, and large models take a second each.
        arrays = tuple(array[:MOST_BATCHES] for array in arrays)
    return lambda: dict(steps(arrays)), len(arrays[0]) * probe.batch_size


def _in_lanes(probe: Probe, width: int) -> tuple[Callable[[], object], int]:
    """Return a call of the program of lanes as the executor calls it, and its number of images."""
    program = LaneProgram(probe.make(), probe.targets, probe.batch, probe.resident, width)
    count = BLOCK_STEPS if jax.default_backend() != "cpu" else 1
    active = np.ones((count, width), bool)
    chosen = [np.resize(array, (count, *array.shape[1:])) for array in probe.arrays]
    if count == 1:
        one = [np.stack([array[0]] * width) for array in chosen]
        return lambda: jax.block_until_ready(program.train(active[0], one)), width * probe.batch_size
    block = [np.stack([array] * width, axis=1) for array in chosen]
    return lambda: jax.block_until_ready(
        program.train_block(active, count, block)
    ), count * width * probe.batch_size


class _EnoughError(Exception):
    """The first batches of the trial are known."""


class Probe(Lane):
    """Takes what a trial gives its lane, and trains nothing."""

    def __init__(self) -> None:
        self.programs, self.width = Programs(most=1, names={}), 1
        self.make: Callable[[], keras.Model]
        self.targets: NDArray[Any]
        self.batch: Batch | None = None
        self.resident: Sequence[Any] = ()
        self.arrays: Arrays = ()
        self._inference = Inference()

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return int(self.arrays[0].shape[1])

    @contextmanager
    def alone(self) -> Iterator[None]:
        with backend.lane.apart():
            yield

    def admit(self, shape: str | None, make: Callable[[], keras.Model]) -> None:
        if shape is None:
            raise NotLanedError("its model has no shape that can be compared")
        self.make = make
        self._inference.begin(make)

    def decide(self, make: Callable[[], Decision]) -> Decision:
        return make()

    def training_steps(
        self,
        model: keras.Model,  # noqa: ARG002
        targets: NDArray[Any],
        batch: Batch | None,
        resident: Sequence[Any],
    ) -> Steps:
        self.targets, self.batch, self.resident = targets, batch, resident

        def steps(arrays: Arrays) -> dict[str, float]:
            self.arrays = arrays
            raise _EnoughError

        return steps

    def collect(self, model: keras.Model) -> None:
        """Take no state out, because none was trained."""

    def forward(self, model: keras.Model, *, training: bool) -> Callable[..., Any]:
        return self._inference.function(model, training=training)


def probed(objective: Objective, params: Params, device: Device) -> Probe:
    """Return what a trial needs for its first batches."""
    probe = Probe()
    run = LocalRun(total_epochs=objective.epochs or 1, device=device)
    with entered(probe):
        try:
            objective.train(params, run)
        except _EnoughError:
            return probe
    raise NotLanedError("a trial trains no batch")
