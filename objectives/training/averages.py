"""Validation and export of averaged weights, with the statistics of batch normalizations that belong to them.

The moving statistics of a batch normalization are those of the weights that were trained. Averaged weights compute
other activations: their statistics are computed again, from training images without changes, which are as the images
to be judged. Izmailov et al., "Averaging weights leads to wider optima and better generalization" (2018), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from objectives import backend
from objectives.data import inputs
from objectives.data.inputs import Inputs
from objectives.recipes.averaging import averages
from objectives.training import evaluation

EXAMPLES = 2048
"""Largest number of training examples from which the statistics are computed."""


class AveragedWeights:
    """Gives a compiled model its averaged weights, if its optimizer keeps any, while it is judged or exported."""

    def __init__(self, model: keras.Model, x_train: Inputs) -> None:
        """`x_train` are the training examples, of which the statistics are computed from a sample."""
        self._model, self._x_train = model, x_train
        self._normalizations = [
            layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self._forward: Callable[[Inputs], None] | None = None

    @contextmanager
    def applied(self, rows: NDArray[np.intp] | None, rng: np.random.Generator) -> Iterator[None]:
        """Give the model its averaged weights, and afterwards the state again that it had.

        `rows` are those of the training examples that it was trained on; None: all.
        """
        if not averages(self._model.optimizer):
            yield
            return
        kept = [(one, np.array(keras.ops.convert_to_numpy(one))) for one in self._model.variables]
        try:
            self.apply(rows, rng)
            yield
        finally:
            for variable, value in kept:
                variable.assign(value)

    def apply(self, rows: NDArray[np.intp] | None, rng: np.random.Generator) -> None:
        """Give the model its averaged weights, if there are any, for good; `rows` as for `applied`."""
        found = averages(self._model.optimizer)
        for variable, average in found:
            variable.assign(average)
        if found and self._normalizations:
            self._compute_statistics(rows, rng)

    def _compute_statistics(self, rows: NDArray[np.intp] | None, rng: np.random.Generator) -> None:
        """Set moving means and variances to the means of those of some batches.

        A normalization that is not trained keeps its own.
        """
        pool = np.arange(inputs.count(self._x_train)) if rows is None else rows
        size = min(len(pool), evaluation.batch_size(self._x_train))
        chosen = rng.permutation(pool)[: max(size, min(len(pool), EXAMPLES) // size * size)]
        momenta = [layer.momentum for layer in self._normalizations]
        totals: list[NDArray[np.float64]] = []
        try:
            # With a momentum of zero, moving statistics are those of the last batch.
            for layer in self._normalizations:
                layer.momentum = 0.0
            if self._forward is None:
                self._forward = backend.current().training_forward(self._model)
            batches = np.split(chosen, len(chosen) // size)
            for batch in batches:
                self._forward(inputs.take(self._x_train, np.sort(batch)))
                found = [keras.ops.convert_to_numpy(one).astype(np.float64) for one in self._statistics()]
                totals = [total + one for total, one in zip(totals, found, strict=True)] if totals else found
        finally:
            for layer, momentum in zip(self._normalizations, momenta, strict=True):
                layer.momentum = momentum
        for variable, total in zip(self._statistics(), totals, strict=True):
            variable.assign((total / len(batches)).astype(np.float32))

    def _statistics(self) -> list[Any]:
        return [
            variable
            for layer in self._normalizations
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
