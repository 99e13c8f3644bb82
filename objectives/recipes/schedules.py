"""Learning rate schedules: a peak after a warm-up, and a way down from it to zero."""

from __future__ import annotations

from typing import Any, Literal

import keras

Schedule = Literal["cosine", "constant-decay"]

WARMUP_FRACTION = 0.1
"""Share of all steps in which the learning rate rises to its peak."""
DECAY_FRACTION = 0.2
"""Share of all steps in which a constant learning rate falls to zero at last. Hägele et al., "Scaling laws and
compute-optimal training beyond fixed training durations" (2024)."""


class ConstantDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear warm-up, a constant learning rate, and a linear decay to zero over the last `decay_steps` of `steps`."""

    def __init__(self, peak: float, steps: int, warmup_steps: int, decay_steps: int) -> None:
        self.peak, self.steps = peak, steps
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        ops = keras.ops
        done = ops.cast(step, "float32")
        falling = (self.steps - done) / self.decay_steps
        share = ops.minimum(1.0, falling)
        if self.warmup_steps:
            share = ops.minimum(share, done / self.warmup_steps)
        return self.peak * ops.maximum(0.0, share)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
        }


def made(kind: Schedule, peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the schedule of `steps` batches: "cosine" falls from the peak at once, "constant-decay" at last."""
    warmup = max(1, round(steps * WARMUP_FRACTION))
    if kind == "constant-decay":
        # A warm-up starts at zero: a run of a single step would not train at all.
        return ConstantDecay(peak, steps, warmup if steps > 1 else 0, max(1, round(steps * DECAY_FRACTION)))
    return keras.optimizers.schedules.CosineDecay(
        0.0 if steps > 1 else peak, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )
