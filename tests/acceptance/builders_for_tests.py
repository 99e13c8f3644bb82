"""KerasTuner model builders as users write them, which run unchanged; without Keras, a few milliseconds an epoch."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

objective = "val_loss"
epochs = 4


def data() -> Any:
    """Return pairs for training, validation and test."""
    x = np.linspace(-1.0, 1.0, 8)
    return (x, x), (x, x), (x, 3 * x)


class Line:
    """Fit a line by its slope."""

    def build(self, hp: Any) -> Any:
        """Return a model whose depth has a parameter for each layer."""
        kind = hp.Choice("kind", ["plain", "deep"])
        with hp.conditional_scope("kind", ["deep"]):
            layers = hp.Int("layers", 1, 2)
        with hp.name_scope("deep"):
            units = [hp.Int(f"units_{layer}", 8, 32, step=8) for layer in range(layers or 0)]
        assert (layers is None) == (kind == "plain")
        return SimpleNamespace(slope=hp.Float("slope", 0.0, 4.0), size=sum(units))

    def fit(
        self, hp: Any, model: Any, x: Any, y: Any, epochs: int, callbacks: Any, validation_data: Any
    ) -> None:
        """Report an error that falls from epoch to epoch."""
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        for epoch in range(epochs):
            time.sleep(float(os.environ.get("TEST_EPOCH_SECONDS", "0")))
            error = float(np.mean((model.slope * x - y) ** 2)) + rate + 1 / (epoch + 1)
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"loss": error, "val_loss": error * len(validation_data) / 2})

    def evaluate(self, hp: Any, model: Any, x: Any, y: Any) -> dict[str, float]:  # noqa: ARG002 - the interface
        """Return the error on test data."""
        return {"loss": float(np.mean((model.slope * x - y) ** 2))}


if __name__ == "__main__":
    raise SystemExit("an import must not run this")
