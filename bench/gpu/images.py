"""MNIST and CIFAR-10 as files, real or made up in their shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"mnist": (60_000, 10_000, (28, 28)), "cifar10": (50_000, 10_000, (32, 32, 3))}


def provide(folder: Path, given: Path | None, small: bool) -> set[str]:
    """Fill a folder with the archives that the objectives read, and return the names of those that are real."""
    folder.mkdir(parents=True, exist_ok=True)
    real = set()
    for name in SHAPES:
        source = None if given is None else given / f"{name}.npz"
        if source is not None and source.is_file():
            (folder / source.name).symlink_to(source.absolute())
            real.add(name)
        else:
            arrays = made_up(name, 20 if small else 1)
            np.savez(folder / f"{name}.npz", **arrays)
    return real


def made_up(name: str, divisor: int = 1) -> dict[str, Any]:
    """Return images of ten classes, each a pattern under noise, with as many rows as the data set has by `divisor`."""
    train, test, shape = SHAPES[name]
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, *shape), dtype=np.uint8)
    arrays: dict[str, Any] = {}
    for split, rows in (("train", train // divisor), ("test", test // divisor)):
        labels = np.arange(rows) % 10
        noise = rng.integers(0, 256, (rows, *shape), dtype=np.uint8)
        arrays[f"x_{split}"] = patterns[labels] // 4 + noise // 4 * 3
        arrays[f"y_{split}"] = labels
    return arrays
