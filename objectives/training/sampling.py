"""The order in which an epoch draws the training examples; it follows from the run's seed and the epoch alone."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["shuffled", "balanced"]


def order(
    targets: NDArray[Any], sampling: Sampling, passes: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return indices of examples, as many as there are in `passes` passes through all of them.

    "shuffled": each example once a pass. "balanced": each class of the targets (n,) equally often; examples of a small
    class are repeated, each as often as the others up to one, and those of a large class left out.
    """
    if sampling == "shuffled":
        return np.concatenate([rng.permutation(len(targets)) for _ in range(passes)])
    present = np.unique(targets)
    quotas = np.full(len(present), passes * len(targets) // len(present))
    quotas[rng.permutation(len(present))[: passes * len(targets) - int(quotas.sum())]] += 1
    drawn = [
        _cycled(np.flatnonzero(targets == label), int(quota), rng)
        for label, quota in zip(present, quotas, strict=True)
    ]
    return rng.permutation(np.concatenate(drawn))


def _cycled(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-size // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:size]
