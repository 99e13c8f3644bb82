"""Augmentations make the documented changes and keep shape and type."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.augment import Alternation, Augmentation, Mixing, Progress, rotated
from objectives.augment.fading import Fading
from objectives.augment.mixing import packed


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


def test_alternating_flip_shows_both_sides_of_each_image_in_two_epochs():
    alternation, rows = Alternation(seed=3, count=200), np.arange(200)
    epochs = [alternation.mirrored(rows, epoch) for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert 70 < epochs[0].sum() < 130
    # In any order, and in a process that resumes the run.
    np.testing.assert_array_equal(Alternation(3, 200).mirrored(rows[::-1], 2), epochs[1][::-1])
    assert (Alternation(4, 200).mirrored(rows, 1) != epochs[0]).any()


@pytest.mark.parametrize(
    ("fading", "strengths"),
    [
        (Fading(), [1, 1, 1, 1, 1]),
        (Fading(fade=0.6), [1, 1, 0.75, 0.5, 0.25]),
        (Fading(fade=0.4, plain_epochs=2), [2 / 3, 1 / 3, 0, 0]),
        (Fading(plain_epochs=1), [1, 1, 0]),
        (Fading(plain_epochs=9), [0, 0]),
    ],
)
def test_changes_fade_over_the_last_epochs_of_each_cycle(fading, strengths):
    length = 5
    found = [
        fading.strength(Progress(epoch=100 + place, place=place, length=length))
        for place in range(length - len(strengths) + 1, length + 1)
    ]
    assert found == pytest.approx(strengths)


def test_faded_augmentation_has_smaller_shifts_rotations_and_squares():
    whole = Augmentation(flip=True, shift=4, rotation_degrees=8, cutout=8, fade=1.0)
    faded = whole.during(Progress(place=3, length=3))
    assert (faded.flip, faded.shift, faded.rotation_degrees, faded.cutout) == (True, 1, 2.0, 2)
    assert Augmentation(shift=4).during(Progress(place=3, length=3)) == Augmentation(shift=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Augmentation(flip="both"), "flip must be True, False or 'alternating', not 'both'"),
        (Augmentation(shift=-1), "shift must be a whole number of pixels of at least 0, not -1"),
        (Augmentation(cutout=2.5), "cutout must be a whole number"),
        (
            Augmentation(rotation_degrees=float("nan")),
            "rotation_degrees must be a number of at least 0, not nan",
        ),
        (Augmentation(rotated_share=2), "rotated_share must be a share from 0 to 1, not 2"),
        (Augmentation(fade=1.5), "fade must be a share from 0 to 1, not 1.5"),
        (Augmentation(plain_epochs=True), "plain_epochs must be a whole number of at least 0, not True"),
        (Mixing(), "neither mixup nor cutmix is set"),
        (Mixing(mixup=-0.2), "mixup must be a number of at least 0, such as 0.2, not -0.2"),
        (Mixing(cutmix="1"), "cutmix must be a number"),
        (Mixing(mixup=0.2, share=0), "share must be above 0 and at most 1, not 0"),
        (Mixing(mixup=0.2, fade=-1), "fade must be a share"),
    ],
)
def test_impossible_change_is_refused(wrong, message):
    assert message in wrong.problem()


def test_valid_changes_are_accepted():
    assert Augmentation(flip="alternating", shift=np.int64(2), fade=np.float32(0.5)).problem() is None
    assert Mixing(mixup=0.2, cutmix=1, plain_epochs=2).problem() is None


def test_mixup_averages_each_image_with_its_partner(images):
    mixtures = Mixing(mixup=0.4).draw(len(images), np.random.default_rng(0))
    mixed, shares = mixtures.inputs(images)
    assert (mixed.shape, mixed.dtype) == (images.shape, np.uint8)
    assert shares.min() >= 0.5
    assert shares.min() < 0.7 < shares.max() <= 1
    weights = shares[:, None, None, None]
    np.testing.assert_allclose(mixed, weights * images + (1 - weights) * images[mixtures.partners], atol=0.51)


def test_cutmix_replaces_a_square_by_that_of_the_partner(images):
    mixtures = Mixing(cutmix=1.0).draw(len(images), np.random.default_rng(0))
    mixed, shares = mixtures.inputs(images)
    others = images[mixtures.partners]
    taken = (mixed != images).any(axis=3)
    assert (mixed[taken] == others[taken]).all()
    assert shares.min() >= 0.4
    # A pixel in which both agree does not show.
    np.testing.assert_allclose(1 - taken.mean(axis=(1, 2)), shares, atol=0.05)
    assert (shares < 0.8).any()


@pytest.mark.parametrize(
    ("share", "strength", "least", "most"), [(0.5, 1, 16, 48), (1, 0.5, 16, 48), (1, 0, 0, 0)]
)
def test_share_and_strength_leave_the_other_images_unmixed(images, share, strength, least, most):
    mixing = Mixing(mixup=1.0, cutmix=1.0, share=share)
    mixed, shares = mixing.draw(len(images), np.random.default_rng(0), strength).inputs(images)
    unmixed = shares == 1
    assert least <= (~unmixed).sum() <= most
    np.testing.assert_array_equal(mixed[unmixed], images[unmixed])


def test_rows_of_numbers_are_mixed_and_targets_packed():
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    mixtures = Mixing(mixup=1.0).draw(6, np.random.default_rng(0))
    mixed, shares = mixtures.inputs(rows)
    np.testing.assert_allclose(
        mixed, shares[:, None] * rows + (1 - shares[:, None]) * rows[mixtures.partners]
    )
    labels = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    for targets in (np.arange(6), labels):
        found = packed(targets, mixtures.partners, shares)
        flat = targets.reshape(6, -1)
        expected = np.concatenate([flat, flat[mixtures.partners], shares[:, None]], axis=1)
        np.testing.assert_allclose(found, expected)
