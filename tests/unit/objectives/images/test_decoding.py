"""Pixels of image files: every format, colour mode, orientation and size becomes the same shape."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from objectives.data_options import FITS
from objectives.images.decoding import Geometry, UnreadableError, header, pixels

RED = (200, 40, 40)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, RED)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_formats_give_the_same_pixels(kind):
    found = pixels(encoded(plain((32, 32)), kind), Geometry(16, 16, 3))
    assert np.abs(found.astype(int) - RED).max() <= 4


def test_image_of_the_right_size_keeps_its_pixels():
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert (pixels(encoded(Image.fromarray(values)), Geometry(9, 7, 3)) == values).all()


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.full((8, 8), 200 * 256 + 17, np.uint16))


@pytest.mark.parametrize(
    ("image", "grey", "expected"),
    [
        (plain().convert("P", palette=Image.Palette.ADAPTIVE), False, RED),
        (Image.new("L", (8, 8), 120), True, 120),
        (Image.new("1", (8, 8), 1), True, 255),
        (sixteen_bits(), True, 200),
        # Transparent pixels show white, whatever colour they hide.
        (Image.new("RGBA", (8, 8), (*RED, 0)), False, 255),
        (Image.new("RGBA", (8, 8), (*RED, 255)), False, RED),
        (Image.new("LA", (8, 8), (10, 0)), True, 255),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), False, 204),
    ],
)
def test_colour_modes_become_grey_or_rgb(image, grey, expected):
    content = encoded(image)
    assert header(content).grey is grey
    for channels in (1, 3) if grey else (3,):
        found = pixels(content, Geometry(8, 8, channels))
        assert found.shape == (8, 8, channels)
        assert (found == expected).all()


def test_palette_with_a_transparent_colour_shows_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (pixels(encoded(image, transparency=1), Geometry(8, 8, 3)) == 255).all()


@pytest.mark.parametrize("kind", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(kind):
    found = pixels(encoded(plain().convert(kind), "JPEG", quality=100), Geometry(8, 8, 3))
    assert np.abs(found.astype(int) - RED).max() <= 8


def test_exif_orientation_is_applied():
    values = np.zeros((20, 40), np.uint8)
    # The camera was turned: the bright half of the file is the top of the picture.
    values[:, :20] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(values), "JPEG", exif=exif, quality=100)
    assert (header(content).height, header(content).width) == (40, 20)
    found = pixels(content, Geometry(40, 20, 1))
    assert found[:18].min() > 200
    assert found[22:].max() < 50


@pytest.mark.parametrize(
    ("fit", "edges", "marked"), [("crop", False, 4), ("pad", True, 2), ("stretch", False, 2)]
)
def test_other_shapes_are_cropped_padded_or_stretched(fit, edges, marked):
    values = np.full((32, 64), 200, np.uint8)
    # A mark in the centre, 16 wide and 16 high.
    values[8:24, 24:40] = 100
    found = pixels(encoded(Image.fromarray(values)), Geometry(8, 8, 1, fit))[..., 0]
    assert (found[0] < 10).all() == edges
    assert abs((np.abs(found[4].astype(int) - 100) < 50).sum() - marked) <= 1


@pytest.mark.parametrize("shape", [(900, 7), (7, 900), (3000, 1)])
@pytest.mark.parametrize("fit", FITS)
def test_long_thin_image_keeps_a_line_of_pixels(shape, fit):
    content = encoded(Image.fromarray(np.full(shape, 200, np.uint8)))
    assert pixels(content, Geometry(64, 64, 1, fit)).max() == 200


def test_large_jpeg_is_decoded_as_exactly_as_needed():
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    large = Image.fromarray(values).resize((800, 600), Image.Resampling.BICUBIC)
    exact = pixels(encoded(large), Geometry(32, 32, 3)).astype(int)
    assert np.abs(pixels(encoded(large, "JPEG", quality=98), Geometry(32, 32, 3)) - exact).mean() < 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"GIF or not", "it is not an image"),
        (encoded(noise(), "JPEG")[:-2000], "truncated"),
        (encoded(noise())[:-2000], "truncated"),
        (encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), "unknown range"),
    ],
)
def test_file_that_cannot_be_decoded_has_a_reason(content, reason):
    with pytest.raises(UnreadableError, match=reason):
        pixels(content, Geometry(8, 8, 3))
