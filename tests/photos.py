"""Made photos: three classes of shapes on noisy backgrounds, of mixed sizes and formats, the same for the same seed.

Discs, stripes and crosses in random colours, places and sizes: a small network separates them after a few epochs, and
no class can be recognized by its colour, size or format.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Pixels = Any
"""An array; operations of NumPy return any type."""

FORMATS = ("jpg", "png", "webp", "bmp", "tif")


def make_photos(
    folder: Path, per_class: int = 20, *, side: tuple[int, int] = (24, 40), seed: int = 0
) -> Path:
    """Write `<class>/<number>.<format>` for each class, and return the folder."""
    rng = np.random.default_rng(seed)
    for name, mask in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = rng.integers(*side, size=2, endpoint=True)
            path = folder / name / f"{number:03}.{FORMATS[number % len(FORMATS)]}"
            Image.fromarray(photo(mask, int(height), int(width), rng)).save(path)
    return folder


def photo(mask: Callable[..., Pixels], height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return one photo as uint8 (height, width, 3)."""
    ground, colour = rng.integers(0, 256, (2, 3))
    # Apart, so that the shape can be seen.
    colour = np.where(np.abs(colour - ground) < 80, (ground + 128) % 256, colour)
    y, x = np.mgrid[:height, :width] / min(height, width)
    place = rng.uniform(0.35, 0.65, 2) * (height, width) / min(height, width)
    shape = mask(y - place[0], x - place[1], rng.uniform(0.22, 0.35))
    image = np.where(shape[..., None], colour, ground) + rng.normal(0, 12, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def _disc(y: Pixels, x: Pixels, size: float) -> Pixels:
    return np.hypot(y, x) < size


def _stripes(y: Pixels, x: Pixels, size: float) -> Pixels:
    return (np.abs(x) < 1.3 * size) & (np.abs(y) < 1.3 * size) & (np.floor(y / size * 2.5) % 2 == 0)


def _cross(y: Pixels, x: Pixels, size: float) -> Pixels:
    return (np.minimum(np.abs(y + x), np.abs(y - x)) < 0.45 * size) & (np.hypot(y, x) < 1.3 * size)


CLASSES: dict[str, Callable[..., Pixels]] = {"cross": _cross, "disc": _disc, "stripes": _stripes}
