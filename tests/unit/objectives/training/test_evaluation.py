"""Outputs of a model: each example once, in batches whose size fits the size of an example."""

from __future__ import annotations

import math

import numpy as np
import pytest

from objectives.training import evaluation


@pytest.mark.parametrize(
    ("shape", "count", "sizes"),
    [
        ((32, 32, 3), 1000, [500, 500]),
        ((64, 64, 3), 513, [257, 257]),
        ((224, 224, 3), 100, [34, 34, 34]),
        # Larger than a batch may be: one by one.
        ((2048, 2048, 3), 2, [1, 1]),
        ((), 3, [3]),
    ],
)
def test_large_images_are_evaluated_in_small_batches(shape, count, sizes):
    images, seen = (
        np.broadcast_to(np.arange(count, dtype=np.float32)[(...,) + (None,) * len(shape)], (count, *shape)),
        [],
    )

    def forward(batch):
        seen.append(len(batch))
        assert batch.size <= max(evaluation.BATCH_VALUES, math.prod(shape))
        return batch.reshape(len(batch), -1)[:, :1]

    found = evaluation.raw_outputs(forward, images)
    assert (found[:, 0].tolist(), seen) == (list(range(count)), sizes)
