"""An objective on made-up images, which needs no file and no other package."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.augment import Augmentation
from objectives.keras_objective import KerasObjective


def images() -> Any:
    """Return training and test images of ten patterns under noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)

    def made(rows: int) -> Any:
        labels = np.arange(rows) % 10
        noise = rng.integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)
        return patterns[labels] // 2 + noise // 2, labels

    return made(2000), made(500)


class MadeUp(KerasObjective):
    """A small CNN."""

    dataset = images
    epochs = 2
    augmentation = Augmentation(shift=1)
    space = {
        "batch_size": CategoricalDistribution([64, 128]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.3),
    }
    first = [{"batch_size": 64, "optimizer": "sgd", "learning_rate": 3e-2, "dropout": 0.1}]

    def build(self, params: Any, data: Any) -> Any:
        from objectives.architectures import cnn

        return cnn(data, widths=(8, 16), depth=1, dense=32, dropout=params["dropout"])
