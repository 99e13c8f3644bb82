"""Masked arrays, which NumPy does not import by itself: that takes longer than reading most data."""

from __future__ import annotations

import sys

import numpy as np


def first_masked_row(values: object) -> int | None:
    """Return the index of the first row with a masked value; None if no value is masked."""
    # Only code that has imported them can have made any.
    if "numpy.ma" not in sys.modules or not isinstance(values, np.ma.MaskedArray):
        return None
    mask = np.atleast_1d(np.ma.getmaskarray(values))
    return int(np.argwhere(mask)[0][0]) if mask.any() else None
