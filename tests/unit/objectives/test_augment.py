"""Augmentations make the documented changes and keep shape and type."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.augment import Augmentation, rotated


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (64, 9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(flip=True),
        Augmentation(shift=3),
        Augmentation(rotation_degrees=15),
        Augmentation(cutout=3),
        Augmentation(flip=True, shift=2, rotation_degrees=10, cutout=4, fill=255),
    ],
)
def test_augmentation_keeps_shape_type_and_input(augmentation, images):
    before = images.copy()
    changed = augmentation(images, np.random.default_rng(1))
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, 257), (np.float32, 1 / 255)])
def test_pixels_of_other_types_are_changed_as_bytes_are(images, dtype, scale):
    change = {"flip": True, "shift": 2, "rotation_degrees": 10, "rotated_share": 0.5, "cutout": 3}
    expected = Augmentation(**change, fill=100)(images, np.random.default_rng(1))
    scaled = (images * np.float64(scale)).astype(dtype)
    fill = 100 * scale
    changed = Augmentation(**change, fill=fill)(scaled, np.random.default_rng(1))
    assert changed.dtype == dtype
    np.testing.assert_allclose(changed / scale, expected, atol=0.51)


def test_rotation_of_some_images_equals_that_of_each(images):
    angles = np.where(np.arange(len(images)) % 3, 0, 0.2).astype(np.float32)
    alone = [rotated(image[None], angle[None], 7)[0] for image, angle in zip(images, angles, strict=True)]
    np.testing.assert_array_equal(rotated(images, angles, 7), alone)


def test_augmentation_depends_only_on_the_generator(images):
    augmentation = Augmentation(flip=True, shift=2, rotation_degrees=10, cutout=3)
    first, again, other = (augmentation(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_rotated_share_leaves_the_other_images_unchanged(images):
    turned = Augmentation(rotation_degrees=20, rotated_share=0.5)(images, np.random.default_rng(0))
    unchanged = (turned == images).all(axis=(1, 2, 3))
    assert 16 < unchanged.sum() < 48


def test_default_augmentation_changes_nothing(images):
    np.testing.assert_array_equal(Augmentation()(images, np.random.default_rng(0)), images)


def test_flip_mirrors_half_of_the_images(images):
    changed = Augmentation(flip=True)(images, np.random.default_rng(0))
    same = (changed == images).all(axis=(1, 2, 3))
    mirrored = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_shift_moves_by_whole_pixels_in_every_direction(images):
    most, fill = 2, 0
    offsets = set()
    for image, moved in zip(
        images, Augmentation(shift=most, fill=fill)(images, np.random.default_rng(0)), strict=True
    ):
        found = [
            (down, right)
            for down in range(-most, most + 1)
            for right in range(-most, most + 1)
            if (moved == _moved(image, down, right, fill)).all()
        ]
        assert len(found) == 1
        offsets.update(found)
    assert {down for down, _ in offsets} == {right for _, right in offsets} == {-2, -1, 0, 1, 2}


def _moved(image: np.ndarray, down: int, right: int, fill: int) -> np.ndarray:
    result = np.full_like(image, fill)
    height, width = image.shape[:2]
    result[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return result


def test_cutout_hides_a_whole_square_at_any_position(images):
    side, fill = 4, 0
    cut = Augmentation(cutout=side, fill=fill)(images, np.random.default_rng(0))
    corners = set()
    for image, holed in zip(images, cut, strict=True):
        hidden = (holed == fill).all(axis=2)
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        assert (len(rows), len(columns), hidden.sum()) == (side, side, side**2)
        np.testing.assert_array_equal(holed[~hidden], image[~hidden])
        corners.add((rows[0], columns[0]))
    assert {row for row, _ in corners} == set(range(9 - side + 1))
    assert {column for _, column in corners} == set(range(7 - side + 1))


def test_cutout_as_large_as_the_image_hides_all_of_it(images):
    assert (Augmentation(cutout=20, fill=5)(images, np.random.default_rng(0)) == 5).all()


def test_rotation_by_a_tiny_angle_changes_nothing(images):
    np.testing.assert_array_equal(rotated(images, np.full(len(images), 1e-9, np.float32), 0), images)


def test_rotation_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    turned = Augmentation(rotation_degrees=30.0)(image, np.random.default_rng(5))[0, :, :, 0]
    degrees = np.random.default_rng(5).uniform(-30.0, 30.0, 1)[0]
    expected = ndimage.rotate(
        image[0, :, :, 0].astype(float), -degrees, reshape=False, order=1, mode="grid-constant", cval=0
    )
    np.testing.assert_allclose(turned, expected, atol=0.51)
