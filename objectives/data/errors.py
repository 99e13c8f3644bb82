"""The error of arrays that cannot be trained on."""

from __future__ import annotations


class ArrayInvalidError(ValueError):
    """An array cannot be used; the message is the end of a sentence and names it."""
