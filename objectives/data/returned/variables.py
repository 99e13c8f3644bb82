"""Values of variables as pickles: compared before and after a call, and taken over by another process."""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

MOST_BYTES = 1 << 26
"""Largest pickle of a variable that is compared."""
MOST_VALUES = 1 << 16
"""Number of values of an array that are compared, evenly spread."""

_FRAMEWORKS = frozenset({"tensorflow", "keras", "jax", "jaxlib", "torch", "polars"})
"""Packages whose objects start threads or devices when they are unpickled."""
FIXED = (
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
)
"""Types of values that are not changed in place, or whose attributes are no state."""

REFUSED = (
    pickle.PicklingError,
    TypeError,
    AttributeError,
    ValueError,
    RecursionError,
    NotImplementedError,
    OSError,
)


def fingerprint(value: Any) -> str | None:
    """Return a digest of an object that may be changed in place; None if it is not compared."""
    if isinstance(value, FIXED):
        return None
    content = _Bounded()
    with suppress(*REFUSED, _TooLargeError):
        _Sampler(content).dump(value)
        return content.digest.hexdigest()
    return None


class _TooLargeError(Exception):
    """A pickle is longer than it may be."""


class _Bounded(io.RawIOBase):
    """A file that keeps only the digest of its content."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self._left = MOST_BYTES

    def write(self, content: Any) -> int:
        self._left -= len(content)
        if self._left < 0:
            raise _TooLargeError
        self.digest.update(content)
        return len(content)


class _Strict(pickle.Pickler):
    """Refuses objects of frameworks, and pickles modules by name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, ModuleType):
            return importlib.import_module, (value.__name__,)
        if type(value).__module__.partition(".")[0] in _FRAMEWORKS:
            raise pickle.PicklingError(type(value).__name__)
        return NotImplemented


class _Sampler(_Strict):
    """Pickles some values of large arrays."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.size > MOST_VALUES and not value.dtype.hasobject:
            return bytes, (np.ascontiguousarray(value.flat[:: value.size // MOST_VALUES]).tobytes(),)
        return super().reducer_override(value)


def pickled(value: Any) -> bytes:
    content = io.BytesIO()
    _Strict(content, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return content.getvalue()


def changed_in_place(before: Any, after: Any) -> bool:
    """Give an object the content of another one of its type; return False if it cannot be changed."""
    if before is after:
        # Some objects are pickled by their name, such as loggers.
        return True
    if type(before) is not type(after):
        return False
    if isinstance(before, dict | set):
        before.clear()
        before.update(after)
    elif isinstance(before, list):
        before[:] = after
    elif isinstance(before, np.ndarray) and before.shape == after.shape and before.flags.writeable:
        before[...] = after
    elif (
        getattr(type(before), "__setattr__", None) is object.__setattr__
        and hasattr(before, "__dict__")
        and not callable(getattr(before, "__setstate__", None))
    ):
        before.__dict__.clear()
        before.__dict__.update(after.__dict__)
    else:
        return False
    return True
