"""The error of arrays that cannot be trained on."""

from __future__ import annotations


class ArrayInvalidError(ValueError):
    """An array cannot be used; the message is the end of a sentence and names it."""


def array_name(inputs: str, name: str) -> str:
    """Return the name in messages of one of several inputs; `name` is empty if there is one."""
    return f"{inputs}[{name!r}]" if name else inputs
