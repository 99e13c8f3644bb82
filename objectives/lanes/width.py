"""The number of lanes that is worth it on a device: measured by training a few steps with 1, 2, 4, … of them."""

from __future__ import annotations

import gc
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
from objectives.lanes.program import LaneProgram
from objectives.lanes.shape import NotLanedError, shape_of
from objectives.local_run import LocalRun
from objectives.training.programs import Programs

MOST_LANES = 64
LEAST_GAIN = 1.1
"""Twice as many lanes have to train at least so many times as many images per second."""
MEASURED_SECONDS = 0.5
MEASURED_STEPS = 16
"""A number of lanes is measured for about so many seconds or steps, whichever end first, after its compilation."""


@dataclass(frozen=True)
class Measured:
    """Speed and memory of a number of lanes."""

    width: int
    images_per_second: float
    """Of all lanes together, while each has a batch."""
    bytes_in_use: int | None
    """Largest memory of the device that was in use so far; None where the device does not tell."""


@dataclass(frozen=True)
class Choice:
    """The number of lanes to use, and those that were measured for it."""

    width: int
    measured: Sequence[Measured]


def best_width(
    objective: Objective,
    params: Params,
    *,
    device: Device | None = None,
    most: int = MOST_LANES,
    log: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Return the number of lanes at which the images per second stop growing, after `prepare`.

    1, 2, 4, … lanes train a few batches each, up to `most`, until twice as many are hardly faster or do not fit into
    memory. Each number is compiled anew, which takes seconds. `log` gets a line for each.

    Raises:
        NotLanedError: a trial with these parameters cannot train in a lane.
        Exception: as training one alone, such as an error for want of memory with a single lane.
    """
    device = device or Device()
    shape_of(objective, params, device=device)
    probe, found = probed(objective, params, device), list[Measured]()
    width = 1
    while width <= most and not _exceeds(found):
        try:
            found.append(measured(probe, width))
        except Exception as exc:
            if not found or not backend.is_out_of_memory(exc):
                raise
            log(f"{width} lanes do not fit into memory")
            break
        log(f"{width} lanes: {found[-1].images_per_second:,.0f} images/s")
        if len(found) > 1 and found[-1].images_per_second < LEAST_GAIN * found[-2].images_per_second:
            break
        width *= 2
    best = found[0]
    for one in found[1:]:
        if one.images_per_second >= LEAST_GAIN * best.images_per_second:
            best = one
    return Choice(best.width, found)


def _exceeds(found: Sequence[Measured]) -> bool:
    """Return whether twice as many lanes as the last ones would need more memory than the device has."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    used = found[-1].bytes_in_use if found else None
    before = found[-2].bytes_in_use if len(found) > 1 else None
    if limit is None or used is None:
        return False
    # The examples and the first program's memory do not double.
    return bool(used + (used - before if before is not None else 0) > limit)


def measured(probe: Probe, width: int) -> Measured:
    """Return the speed of a number of lanes, compiled anew, all with the first batch of a trial."""
    program = LaneProgram(probe.make(), probe.targets, probe.batch, probe.resident, width)
    arrays = [np.stack([array[0]] * width) for array in probe.arrays]
    active = np.ones(width, bool)
    # Compiled, and once more, because the second call finds the state as the first has left it.
    for _ in range(2):
        jax.block_until_ready(program.train(active, arrays))
    began_at, steps = time.perf_counter(), 0
    while steps < MEASURED_STEPS and time.perf_counter() < began_at + MEASURED_SECONDS:
        jax.block_until_ready(program.train(active, arrays))
        steps += 1
    seconds = (time.perf_counter() - began_at) / steps
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    del program
    gc.collect()
    return Measured(width, width * probe.batch_size / seconds, used)


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
