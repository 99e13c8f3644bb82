"""Image files become pixels: the rules for formats, colours, orientation and size.

Rotated as EXIF directs. Palettes and CMYK become RGB, 16 bits become the upper 8, transparent pixels show white. The
pixels of an image that has the right size already are those of its file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from objectives.data_options import Fit

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes without colour."""
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
_DRAFT_FACTOR = 2
"""A JPEG is decoded at the smallest of its scales that is this much larger than needed: several times faster."""


class UnreadableError(Exception):
    """An image cannot be decoded; the message gives the reason, without the file."""


@dataclass(frozen=True)
class Geometry:
    """Shape of all images of a data set, and how others are fitted into it."""

    height: int
    width: int
    channels: int
    """1 if all images are grey, else 3."""
    fit: Fit = "crop"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels


@dataclass(frozen=True, kw_only=True)
class Header:
    """Facts that the beginning of an image file states."""

    width: int
    """Pixels as it is shown."""
    height: int
    grey: bool
    """Whether it has no colour."""
    format: str
    """Pillow's name of the format, such as JPEG."""
    mode: str
    """Pillow's name of the colour mode, such as RGB."""


def header(content: bytes) -> Header:
    """Return the facts at the beginning of a file, without decoding it.

    Raises:
        UnreadableError: it is not an image that can be read.
    """
    with _opened(content) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _TURNED:
            width, height = height, width
        return Header(
            width=width,
            height=height,
            grey=image.mode in _GREY,
            format=image.format or "",
            mode=image.mode,
        )


def pixels(content: bytes, geometry: Geometry) -> NDArray[np.uint8]:
    """Return an image as uint8 of `geometry.shape`.

    Raises:
        UnreadableError: it cannot be decoded.
    """
    with _opened(content) as image:
        if image.format == "JPEG":
            # The turned size too, because the orientation is applied later.
            side = _DRAFT_FACTOR * max(geometry.height, geometry.width)
            image.draft(None, _covering(image.size, side))
        shown = ImageOps.exif_transpose(image)
        fitted = _fitted(_plain(shown, "L" if geometry.channels == 1 else "RGB"), geometry)
        return np.asarray(fitted, np.uint8).reshape(geometry.shape)


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except UnreadableError:
        raise
    except MemoryError:
        raise
    # Damaged files make Pillow's decoders raise anything.
    except Exception as exc:
        raise UnreadableError(_reason(exc, content)) from exc


def _reason(exc: Exception, content: bytes) -> str:
    if not content:
        return "it is empty"
    if isinstance(exc, UnidentifiedImageError):
        return "it is not an image"
    return " ".join(str(exc).split())[:120] or type(exc).__name__


def _covering(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the size of an image scaled so that its short side is `side`."""
    scale = side / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _plain(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Return an image with 8 bits a channel and no transparency."""
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
            raise UnreadableError("its pixels are 32-bit numbers of unknown range")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode in _TRANSPARENT or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer)
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, geometry: Geometry) -> Image.Image:
    size = (geometry.width, geometry.height)
    if image.size == size:
        return image
    method = Image.Resampling.BICUBIC
    if geometry.fit == "crop":
        return ImageOps.fit(image, size, method)
    if geometry.fit == "pad":
        # A line of pixels is left of the longest and thinnest images, which Pillow refuses.
        scale = min(size[0] / image.width, size[1] / image.height)
        if min(image.size) * scale < 1:
            image = image.resize(
                (max(1, round(image.width * scale)), max(1, round(image.height * scale))), method
            )
        return ImageOps.pad(image, size, method)
    return image.resize(size, method)
