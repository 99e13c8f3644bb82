"""The records of an objective, which may hold values of any library: kept as plain values, or refused by name.

A record becomes text, numbers, booleans, None, lists and dictionaries with names as keys, so nothing of an objective's
own classes leaves its process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

from objectives.values import ValueRefusedError, guarded, is_a, named, number, shown, text

MOST_DEPTH = 20
"""Largest depth of nested records."""
MOST_VALUES = 2_000_000
"""Largest number of values in one record."""
MOST_RECORDED = 16 * 1024 * 1024
"""Largest size of all records of a run together, as JSON in bytes."""

_PLAIN_TYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)) | {
    "bool"
}
"""Names of NumPy's types whose values become Python's own in a list."""


def plain_records(recorded: Mapping[str, object], kind: str = "record") -> dict[str, Any]:
    """Return records as plain values: arrays and tuples become lists, NumPy's numbers become Python's.

    Messages name each by its kind, and advise a file in `run.output` for those of kind "record".

    Raises:
        ValueRefusedError: a value or name cannot be kept, or the values are too large together.
    """
    plain = {
        name: guarded(
            f"the {kind} {name!a}",
            value,
            _remedy(kind),
            lambda name=name, value=value: _Converter(kind).plain(f"the {kind} {name!a}", value),  # type: ignore[misc]
        )
        for name, value in named(kind, recorded).items()
    }
    check_size(plain, kind)
    return plain


def check_size(plain: Mapping[str, Any], kind: str = "record") -> None:
    """Raise ValueRefusedError if records are too large together."""
    sizes = {name: len(json.dumps(value)) for name, value in plain.items()}
    if sum(sizes.values()) > MOST_RECORDED:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueRefusedError(
            f"the {kind} {largest!a} is too large ({sizes[largest] / 2**20:.1f} MiB as JSON, all {kind}s together"
            f" at most {MOST_RECORDED // 2**20} MiB): {_file(kind)}"
        )


class _Converter:
    """The conversion of one record."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._left = MOST_VALUES

    def plain(self, label: str, value: Any, depth: int = 0) -> Any:
        self._count(label, depth, 1)
        if value is None or value is True or value is False:
            return value
        if is_a(value, str):
            return text(value)
        if hasattr(type(value), "__array__") and hasattr(value, "dtype"):
            listed = self._listed(label, value)
            # The numbers of an array need no further look.
            return listed if str(value.dtype) in _PLAIN_TYPES else self.plain(label, listed, depth)
        if is_a(value, int):
            number(label, value)
            return int.__int__(value)
        if is_a(value, (Real, Decimal)):
            return number(label, value)
        if is_a(value, Mapping):
            items = named(f"key in {label}", value)
            return {name: self.plain(f"{label}[{name!a}]", item, depth + 1) for name, item in items.items()}
        if is_a(value, (list, tuple, range)):
            self._count(label, depth, len(value))
            self._left += len(value)
            return [self.plain(f"{label}[{index}]", item, depth + 1) for index, item in enumerate(value)]
        raise ValueRefusedError(f"{label} is {shown(value)}: {_remedy(self._kind)}")

    def _count(self, label: str, depth: int, found: int) -> None:
        """Count values; raises ValueRefusedError if they are too many or nested too deep."""
        self._left -= found
        if depth > MOST_DEPTH or self._left < 0:
            raise ValueRefusedError(
                f"{label} is nested too deep or has too many values (at most {MOST_DEPTH} levels and"
                f" {MOST_VALUES:,} values): {_file(self._kind)}"
            )

    def _listed(self, label: str, value: Any) -> Any:
        """Return an array or tensor as nested lists, or as one value if it has no dimension."""
        import numpy as np

        try:
            # Any array: a masked one lists its masked values as None.
            array = np.asanyarray(value)
            if array.dtype.kind in "cSMm" or array.dtype.names is not None:
                raise TypeError
            if array.dtype.kind not in "biuUO" and array.dtype not in (np.float16, np.float32, np.float64):
                # bfloat16 and other types that have no Python form.
                array = array.astype(np.float64)
            listed = array.tolist() if array.size <= MOST_VALUES else None
        except Exception as exc:
            raise ValueRefusedError(f"{label} is {shown(value)}: {_remedy(self._kind)}") from exc
        if listed is None:
            raise ValueRefusedError(
                f"{label} has {array.size:,} values, at most {MOST_VALUES:,}: {_file(self._kind)}"
            )
        return listed


def _file(kind: str) -> str:
    """Return the advice for values that are not records: an Optuna objective has no folder of a run."""
    return f"write it to a file{' in run.output' if kind == 'record' else ''}"


def _remedy(kind: str) -> str:
    return (
        "use numbers, text, booleans, None, arrays of these, lists, or dictionaries with text as keys, or"
        f" {_file(kind)}"
    )
