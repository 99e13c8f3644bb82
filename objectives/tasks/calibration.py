"""Calibration of a classifier's probabilities, and its most confident mistakes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Labels

BINS = 15
"""Number of bins of equal width, as in "On Calibration of Modern Neural Networks" (Guo et al., 2017)."""
MOST_WRONG = 24
"""Number of recorded mistakes."""
THUMBNAIL = 64
"""Longest side in pixels of a recorded image."""


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose predicted class got a probability in (`low`, `high`]."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean probability of the predicted class; None for an empty bin."""
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Agreement of confidence with accuracy."""

    expected_error: float
    """Expected calibration error: mean distance of the two over images, by bins (Guo et al., 2017)."""
    bins: list[CalibrationBin]


@dataclass(frozen=True)
class Mistake:
    """A misclassified image."""

    index: int
    """Index in the test set."""
    true: int
    predicted: int
    confidence: float
    """Probability of the predicted class."""


def calibration(probabilities: NDArray[np.float64], labels: Labels, bins: int = BINS) -> Calibration:
    """Compare confidence with accuracy, given probabilities (n, classes) and labels (n,)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Bins are open at the lower edge; rounding can put a probability slightly above 1.
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found, error = [], 0.0
    for index in range(bins):
        inside = which == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        share = float(right[inside].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(labels) * abs(mean - share)
        found.append(CalibrationBin(float(edges[index]), float(edges[index + 1]), count, mean, share))
    return Calibration(error, found)


def confidently_wrong(
    probabilities: NDArray[np.float64], labels: Labels, most: int = MOST_WRONG
) -> list[Mistake]:
    """Return the mistakes whose wrong class got the highest probability, highest first."""
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        Mistake(int(index), int(labels[index]), int(predictions[index]), float(confidence[index]))
        for index in order
    ]


def png(image: NDArray[np.uint8]) -> str:
    """Return a uint8 image (height, width, channels) as a small PNG in base64, without channels beyond three."""
    from PIL import Image

    pixels = image[..., 0] if image.shape[-1] in (1, 2) else image[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
