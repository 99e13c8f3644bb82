"""The state of Keras callbacks, such as the patience that is left: the attributes that they change while they train.

A checkpoint has plain values and arrays only, so other attributes (files, functions, models) begin again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from hpo.errors import ObjectiveBrokenError

NOT_STATE = ("_model", "_params", "params", "validation_data")
"""Names of attributes that Keras sets in each callback."""
_DEEPEST = 20
_PREFIX = "callback/"
_SEQUENCES: Mapping[str, type] = {"list": list, "tuple": tuple, "set": set}


class _NotKept(Exception):
    """A value that a checkpoint cannot have."""


class Snapshot:
    """The attributes of callbacks at the beginning of `fit`, as digests."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = callbacks
        self._digests = [
            {name: _digest(value) for name, value in _attributes(callback)} for callback in callbacks
        ]

    def changed(self) -> dict[str, Any]:
        """Return the entries of a checkpoint for all attributes that have changed since."""
        arrays: list[Any] = []
        kept = []
        for callback, before in zip(self._callbacks, self._digests, strict=True):
            values, lost = {}, []
            for name, value in _attributes(callback):
                digest = _digest(value)
                if digest is None:
                    lost.append(name)
                elif digest != before.get(name, ""):
                    values[name] = _packed(value, arrays)
            # Keras' own callbacks make their files and functions again.
            own = type(callback).__module__.startswith("keras.")
            kept.append({"class": type(callback).__name__, "values": values, "lost": [] if own else lost})
        return {"callbacks": kept} | {f"{_PREFIX}{index:04d}": array for index, array in enumerate(arrays)}


def restore(callbacks: Sequence[Any], state: Mapping[str, Any]) -> list[str]:
    """Set the attributes that a checkpoint has; return descriptions of those that it could not keep.

    Raises:
        ObjectiveBrokenError: the checkpoint was made with other callbacks.
    """
    kept = state["callbacks"]
    classes = [type(callback).__name__ for callback in callbacks]
    if [entry["class"] for entry in kept] != classes:
        found = ", ".join(entry["class"] for entry in kept)
        raise ObjectiveBrokenError(
            f"the checkpoint was made with the callbacks {found}, not {', '.join(classes)}: give fit the same, or train"
            " from epoch 1"
        )
    for callback, entry in zip(callbacks, kept, strict=True):
        for name, packed in entry["values"].items():
            setattr(callback, name, _unpacked(packed, state))
    return [f"{entry['class']}.{name}" for entry in kept for name in entry["lost"]]


def history(callback: keras.callbacks.History) -> dict[str, Any]:
    """Return the values that a History has collected, without those that are not numbers."""
    numbers = {
        name: [float(value) for value in values]
        for name, values in callback.history.items()
        if all(isinstance(value, int | float) for value in values)
    }
    return {"epoch": list(callback.epoch), "history": numbers}


def _attributes(callback: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(callback).items() if name not in NOT_STATE]


def _digest(value: Any) -> str | None:
    """Return a digest of a value; None if it cannot be kept."""
    arrays: list[Any] = []
    try:
        packed = _packed(value, arrays)
    except _NotKept:
        return None
    found = hashlib.blake2b(repr(packed).encode("utf-8", "surrogatepass"))
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _packed(value: Any, arrays: list[Any], depth: int = 0) -> Any:
    """Return a value as lists, dicts and plain values; its arrays are appended to `arrays` and named by position.

    Raises:
        _NotKept: it has parts of other types.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if depth > _DEEPEST:
        raise _NotKept
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return _array("array", value, arrays)
    if keras.ops.is_tensor(value):
        return _array("tensor", keras.ops.convert_to_numpy(value), arrays)
    for name, sequence in _SEQUENCES.items():
        if kind is sequence:
            return {name: [_packed(item, arrays, depth + 1) for item in value]}
    if kind is dict:
        return {
            "dict": [
                [_packed(key, arrays, depth + 1), _packed(item, arrays, depth + 1)]
                for key, item in value.items()
            ]
        }
    name = getattr(value, "__name__", "")
    # The comparison by which callbacks with a monitor judge, which they choose once.
    if isinstance(name, str) and name and getattr(keras.ops, name, None) is value:
        return {"op": name}
    raise _NotKept


def _array(tag: str, value: Any, arrays: list[Any]) -> dict[str, int]:
    arrays.append(value)
    return {tag: len(arrays) - 1}


def _unpacked(packed: Any, state: Mapping[str, Any]) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((tag, content),) = packed.items()
    if tag == "op":
        return getattr(keras.ops, content)
    if tag in ("array", "tensor"):
        array = state[f"{_PREFIX}{content:04d}"]
        return keras.ops.convert_to_tensor(array) if tag == "tensor" else array
    if tag == "dict":
        return {_unpacked(key, state): _unpacked(item, state) for key, item in content}
    return _SEQUENCES[tag](_unpacked(item, state) for item in content)
