"""Cross-validation of one trial: each epoch trains every fold for one epoch.

One model is built and traced; the folds take turns in it, each with weights, optimizer and random state of its own.
They begin with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives.base import State
from objectives.data.splits import Data
from objectives.training import checkpoint

DEVIATION = "_deviation"
"""End of the names of standard deviations over the folds."""


@dataclass(frozen=True)
class Part:
    """The rows of one fold, or of the only split."""

    train: NDArray[np.intp] | None
    """Rows to train on; None: all."""
    held_out: NDArray[np.intp] | None
    """Training rows that validate the model; None: the validation rows of the data."""


def parts(data: Data) -> list[Part]:
    """Return the folds of data, or their only split."""
    return [Part(train, held_out) for train, held_out in data.folds] or [Part(None, None)]


class States:
    """The states of all folds, of which one at a time is that of the model."""

    def __init__(self, model: keras.Model, count: int, saved: State | None) -> None:
        """Begin with the state that the model has, or continue with those that `captured` has returned.

        Raises:
            ObjectiveBrokenError: the saved state belongs to another model or another number of folds.
        """
        self._model, self._count = model, count
        self._states: list[State] = []
        self.completed = 0
        """Number of epochs that all folds have completed."""
        if count == 1:
            self.completed = 0 if saved is None else checkpoint.restore(model, saved)
        elif saved is None:
            self._states = [_copy(checkpoint.capture(model, 0))] * count
        else:
            self._states = list(saved.get("folds", ()))
            if len(self._states) != count:
                raise ObjectiveBrokenError(
                    f"the checkpoint has {len(self._states)} folds, and the study {count}: train from epoch 1"
                )
            self.completed = int(saved["epoch"])

    def enter(self, fold: int) -> None:
        """Give the model the state of a fold."""
        if self._count > 1:
            checkpoint.restore(self._model, self._states[fold])

    def leave(self, fold: int, epoch: int) -> None:
        """Keep the model's state as that of a fold after an epoch."""
        if self._count > 1:
            self._states[fold] = _copy(checkpoint.capture(self._model, epoch))

    def restart(self) -> None:
        """Give each fold the new optimizer of the model, which has taken no step; weights stay."""
        if self._count > 1:
            new = _copy(checkpoint.capture(self._model, self.completed))
            fresh = {name: value for name, value in new.items() if name.startswith("optimizer")}
            self._states = [
                {name: value for name, value in state.items() if not name.startswith("optimizer")} | fresh
                for state in self._states
            ]

    def captured(self, epoch: int) -> dict[str, Any]:
        """Return the states of all folds after an epoch."""
        self.completed = epoch
        if self._count == 1:
            return checkpoint.capture(self._model, epoch)
        return {"epoch": epoch, "folds": self._states}


def summary(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the folds, and the standard deviation of those of validation."""
    if len(measured) == 1:
        return dict(measured[0])
    found = {name: float(np.mean([one[name] for one in measured])) for name in measured[0]}
    deviations = {
        f"{name}{DEVIATION}": float(np.std([one[name] for one in measured], ddof=1))
        for name in found
        if name.startswith("val_")
    }
    return found | deviations


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without the memory of the model, which changes as it trains."""
    return {
        name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in state.items()
    }
