"""Tables of a test set that a final run records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.tasks import calibration
from objectives.tasks.metrics import (
    Floats,
    area_under_curve,
    precision_average,
    predictions,
    ranked,
)

MOST_RESIDUALS = 1_000
"""Number of examples whose values are recorded."""


def confusion(labels: NDArray[Any], predicted: NDArray[Any], class_count: int) -> list[list[int]]:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    cells = np.bincount(labels * class_count + predicted, minlength=class_count**2)
    counts: list[list[int]] = cells.reshape(class_count, class_count).tolist()
    return counts


def of_classes(targets: NDArray[Any], probabilities: Floats, class_count: int) -> dict[str, Any]:
    """Return confusion, calibration and the worst mistakes of probabilities (n, classes)."""
    measured = calibration.calibration(probabilities, targets)
    wrong = calibration.confidently_wrong(probabilities, targets)
    return {
        "test_calibration_error": measured.expected_error,
        "confusion": confusion(targets, predictions(probabilities), class_count),
        "calibration": asdict(measured),
        "wrong": [asdict(mistake) for mistake in wrong],
    }


def of_labels(
    names: Sequence[str], targets: NDArray[np.bool_], probabilities: Floats
) -> list[dict[str, Any]]:
    """Return figures of each label; an area is None where no example, or every one, has the label."""
    predicted, ranks = probabilities > 0.5, ranked(probabilities)
    right = (targets & predicted).sum(axis=0)
    rows = []
    for column, name in enumerate(names):
        flags = targets[:, column]
        found, true = int(predicted[:, column].sum()), int(flags.sum())
        rows.append(
            {
                "label": name,
                "positives": true,
                "precision": float(right[column] / max(1, found)),
                "recall": float(right[column] / max(1, true)),
                "f1": float(2 * right[column] / max(1, found + true)),
                "auc": _known(area_under_curve(ranks[:, column], flags)),
                "average_precision": _known(precision_average(ranks[:, column], flags)),
            }
        )
    return rows


def residuals(
    names: Sequence[str], targets: NDArray[Any], outputs: Floats
) -> dict[str, dict[str, list[float]]]:
    """Return true and predicted values of each target, of examples that are spread evenly over the test set."""
    count = min(len(targets), MOST_RESIDUALS)
    chosen = np.linspace(0, len(targets) - 1, count).round().astype(np.intp)
    return {
        name: {
            "true": targets[chosen, column].astype(np.float64).tolist(),
            "predicted": outputs[chosen, column].tolist(),
        }
        for column, name in enumerate(names)
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
