"""The forms of predictions: the most probable classes, labels with probabilities, or values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo import formatting
from hpo.errors import ModelFileError, UsageError

Outputs = NDArray[np.float64]
"""Outputs of a model (rows, outputs)."""

THRESHOLD = 0.5
"""Probability above which a label is predicted, as in the metrics of the report."""
_LEAST = 1e-45
"""Smallest probability whose logarithm is taken: the smallest positive number of 32 bits."""


class Form(ABC):
    """Cells and JSON of each prediction, and the mean of two."""

    headers: Sequence[str]
    """Columns of CSV after the path."""
    table_headers: Sequence[str]
    right: Sequence[str]
    """Columns of a table that are aligned right."""

    @abstractmethod
    def cells(self, row: Outputs) -> list[Any]:
        """Return the cells of one prediction, with full precision."""

    @abstractmethod
    def table_cells(self, row: Outputs) -> list[str]:
        """Return the cells of one prediction for people."""

    @abstractmethod
    def to_json(self, row: Outputs) -> dict[str, Any]:
        """Return one prediction as JSON."""

    @abstractmethod
    def mean(self, first: Outputs, second: Outputs) -> Outputs:
        """Return the mean of two predictions of the same inputs."""


class Choice(Form):
    """The most probable of several classes, and perhaps the next ones."""

    def __init__(self, classes: Sequence[str], top: int, *, binary: bool = False) -> None:
        self._classes, self._binary = list(classes), binary
        self._top = min(top, len(classes))
        pairs = [
            ("class", "probability"),
            *((f"class_{n}", f"probability_{n}") for n in range(2, self._top + 1)),
        ]
        self.headers = self.table_headers = [name for pair in pairs for name in pair]
        self.right = [name for _, name in pairs]

    def _ranked(self, row: Outputs) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities."""
        shares = np.array([1 - row[0], row[0]]) if self._binary else row
        order = np.argsort(-shares, kind="stable")[: self._top]
        return [(self._classes[index], _number(shares[index])) for index in order]

    def cells(self, row: Outputs) -> list[Any]:
        return [cell for pair in self._ranked(row) for cell in pair]

    def table_cells(self, row: Outputs) -> list[str]:
        return [cell for name, share in self._ranked(row) for cell in (name, f"{share:.4f}")]

    def to_json(self, row: Outputs) -> dict[str, Any]:
        ranked = [{"class": name, "probability": share} for name, share in self._ranked(row)]
        return {**ranked[0], **({"top": ranked} if self._top > 1 else {})}

    def mean(self, first: Outputs, second: Outputs) -> Outputs:
        # The mean of logits, which differ from logarithms of probabilities by a constant in each row.
        if self._binary:
            return _mean_of_sigmoids(first, second)
        logits = (np.log(np.maximum(first, _LEAST)) + np.log(np.maximum(second, _LEAST))) / 2
        shares: Outputs = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares


class Labels(Form):
    """All labels with their probabilities; those above `THRESHOLD` are predicted."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        columns = formatting.apart(labels, ("path", "labels"), "label_")
        self.headers = ["labels", *(columns[label] for label in labels)]
        self.table_headers = ["labels"]
        self.right = ()

    def _predicted(self, row: Outputs) -> list[tuple[str, float]]:
        return [(name, share) for name, share in zip(self._labels, row, strict=True) if share > THRESHOLD]

    def cells(self, row: Outputs) -> list[Any]:
        return ["|".join(name for name, _ in self._predicted(row)), *map(_number, row)]

    def table_cells(self, row: Outputs) -> list[str]:
        shown = sorted(self._predicted(row), key=lambda pair: -pair[1])
        return [", ".join(f"{name} {share:.4f}" for name, share in shown) or "-"]

    def to_json(self, row: Outputs) -> dict[str, Any]:
        shares = dict(zip(self._labels, map(_number, row), strict=True))
        return {"labels": [name for name, _ in self._predicted(row)], "probabilities": shares}

    def mean(self, first: Outputs, second: Outputs) -> Outputs:
        return _mean_of_sigmoids(first, second)


class Values(Form):
    """Numbers with names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        columns = formatting.apart(names, ("path",), "value_")
        self.headers = self.table_headers = self.right = [columns[name] for name in names]

    def cells(self, row: Outputs) -> list[Any]:
        return [_number(value) for value in row]

    def table_cells(self, row: Outputs) -> list[str]:
        return [formatting.metric(float(value)) for value in row]

    def to_json(self, row: Outputs) -> dict[str, Any]:
        return {"values": dict(zip(self._names, map(_number, row), strict=True))}

    def mean(self, first: Outputs, second: Outputs) -> Outputs:
        return (first + second) / 2


def form_of(task: str | None, names: Sequence[str], outputs: int, top: int) -> Form:
    """Return the form of predictions of a task; without a task, the outputs are numbers.

    Raises:
        UsageError: several classes are requested of another task.
        ModelFileError: the number of outputs is not that of the names.
    """
    expected = outputs if task is None or not names else 1 if task == "binary" else len(names)
    if outputs != expected:
        raise ModelFileError(
            f"the model has {formatting.counted(outputs, 'output')}, but metrics.json next to it names"
            f" {', '.join(names)}: they are not of the same retrain"
        )
    if task in ("classes", "binary") and names:
        return Choice(names, top, binary=task == "binary")
    if top > 1:
        raise UsageError(
            f"--top {top} needs a model of classes, and this one predicts {task or 'numbers'}: leave it out"
        )
    if task == "labels" and names:
        return Labels(names)
    numbered = ["output"] if outputs == 1 else [f"output_{number}" for number in range(1, outputs + 1)]
    return Values(names or numbered)


def _mean_of_sigmoids(first: Outputs, second: Outputs) -> Outputs:
    """Return the sigmoid of the mean of logits."""

    def logits(shares: Outputs) -> Outputs:
        found: Outputs = np.log(np.maximum(shares, _LEAST)) - np.log(np.maximum(1 - shares, _LEAST))
        return found

    middle = (logits(first) + logits(second)) / 2
    return np.asarray(1 / (1 + np.exp(-middle)), np.float64)


def _number(value: Any) -> float:
    """Return an output, computed with 32 bits, with as many digits as it has."""
    return float(str(np.float32(value)))
