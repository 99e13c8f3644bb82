"""Schedules of the learning rate as functions of the step and of a few numbers, which a traced step reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from objectives.recipes.schedules import ConstantDecay


def numbers(schedule: Any) -> tuple[float, ...] | None:
    """Return the numbers that `rate` gets; None for a schedule without a formula here."""
    if type(schedule) is ConstantDecay and schedule.warmup_steps:
        found = schedule.peak, schedule.steps, schedule.warmup_steps, schedule.decay_steps
    elif type(schedule) is keras.optimizers.schedules.CosineDecay and _warms_up(schedule):
        found = (
            schedule.initial_learning_rate,
            schedule.warmup_target,
            schedule.warmup_steps,
            schedule.decay_steps,
        )
    else:
        return None
    return tuple(map(float, found))


def _warms_up(schedule: Any) -> bool:
    return schedule.warmup_target is not None and schedule.warmup_steps > 0 and not schedule.alpha


def rate(schedule: Any, step: Any, found: Sequence[Any]) -> Any:
    """Return the learning rate of a schedule at a step, given its `numbers` as tensors."""
    return _FORMULAS[type(schedule)](ops.cast(step, "float32"), *found)


def _cosine(step: Any, first: Any, peak: Any, warmup_steps: Any, decay_steps: Any) -> Any:
    """Return a rate that rises linearly and falls as a cosine, as Keras computes it.

    Both parts are computed, and one is chosen: a condition in the graph would cost more to trace than it saves.
    """
    step = ops.minimum(step, warmup_steps + decay_steps)
    rising = (peak - first) * (step / warmup_steps) + first
    falling = peak * (0.5 * (1.0 + ops.cos(math.pi * ((step - warmup_steps) / decay_steps))))
    return ops.where(step < warmup_steps, rising, falling)


def _constant(step: Any, peak: Any, steps: Any, warmup_steps: Any, decay_steps: Any) -> Any:
    """Return a rate that rises linearly, stays, and falls linearly."""
    share = ops.minimum(ops.minimum(1.0, (steps - step) / decay_steps), step / warmup_steps)
    return peak * ops.maximum(0.0, share)


_FORMULAS: dict[type, Callable[..., Any]] = {
    keras.optimizers.schedules.CosineDecay: _cosine,
    ConstantDecay: _constant,
}
