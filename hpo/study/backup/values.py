"""Rules for single values of a backup, which several columns share."""

from __future__ import annotations

from typing import Any

from hpo.options.fields import Range

_ID = Range(1, 2**53)
"""Range of ids: above it a sequence would come near its end, and JSON readers lose digits."""


def whole(value: Any, bounds: Range) -> bool:
    return type(value) is int and bounds.low <= value <= bounds.high


def is_id(value: Any) -> bool:
    return whole(value, _ID)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
