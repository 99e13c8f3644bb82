"""Values that an objective may give: of other libraries, of enumerations, and broken ones."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np


class Tensor:
    """An array of another library, such as a Keras variable."""

    def __init__(self, value: Any) -> None:
        self._array = np.asarray(value)
        self.dtype = self._array.dtype
        self.shape = self._array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


class Broken:
    """Nothing about it can be shown or converted."""

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    GOOD = "good"
