"""Calibration and confident mistakes, on probabilities made by hand."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from objectives.tasks.calibration import THUMBNAIL, calibration, confidently_wrong, png

# Four images of class 0, with probabilities of class 0.
PROBABILITIES = np.array([[p, 1 - p] for p in (0.95, 0.95, 0.05, 0.3)])
LABELS = np.zeros(4, dtype=np.int64)


def test_calibration_bins_confidence_against_accuracy() -> None:
    found = calibration(PROBABILITIES, LABELS, bins=10)
    filled = {round(one.low, 1): one for one in found.bins if one.images}
    assert {low: one.images for low, one in filled.items()} == {0.9: 3, 0.6: 1}
    assert filled[0.9].accuracy == pytest.approx(2 / 3)
    assert filled[0.9].confidence == pytest.approx(0.95)
    assert found.expected_error == pytest.approx(3 / 4 * (0.95 - 2 / 3) + 1 / 4 * 0.7)
    assert sum(one.images for one in found.bins) == 4


def test_certain_and_correct_predictions_have_no_calibration_error() -> None:
    assert calibration(np.array([[1.0, 0.0]] * 3), LABELS[:3]).expected_error == 0
    # Rounding may take a probability beyond one.
    assert calibration(np.array([[1.0 + 1e-12, 0.0]]), LABELS[:1]).bins[-1].images == 1


def test_most_confident_mistakes_come_first() -> None:
    found = confidently_wrong(PROBABILITIES, LABELS)
    assert [(one.index, one.true, one.predicted) for one in found] == [(2, 0, 1), (3, 0, 1)]
    assert found[0].confidence == pytest.approx(0.95)
    assert len(confidently_wrong(PROBABILITIES, LABELS, most=1)) == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_thumbnail_has_the_pixels_of_the_image(channels: int) -> None:
    image = np.arange(8 * 8 * channels, dtype=np.uint8).reshape(8, 8, channels)
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(png(image)))))
    np.testing.assert_array_equal(read, image[..., 0] if channels < 3 else image[..., :3])


def test_thumbnail_of_a_large_image_is_small() -> None:
    read = Image.open(io.BytesIO(base64.b64decode(png(np.zeros((300, 200, 3), np.uint8)))))
    assert max(read.size) == THUMBNAIL
