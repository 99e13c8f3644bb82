"""Values of variables as pickles: compared before and after a call, and taken over by another process."""

from __future__ import annotations

import copyreg
import hashlib
import importlib
import io
import pickle
import sys
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
"""Types of values that are not changed in place, or whose attributes are not state."""

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
    for pickler in (_Sampler, _Structure):
        content = _Bounded()
        try:
            with suppress(*REFUSED):
                pickler(content).dump(value)
                return content.digest.hexdigest()
        except _TooLargeError:
            return None
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


class _Structure(_Sampler):
    """Pickles the content of objects that have no pickle, such as a class of yours with a lock; by identity the rest.

    Objects of the standard library that have none are not state: locks, pools, files.
    """

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType):
            # Identities are bytes.
            return NotImplemented if value is bytes else _identity(value)
        package = type(value).__module__.partition(".")[0]
        if package in _FRAMEWORKS:
            # Layers that are only used change too, but not their variables.
            return _identity(value, *getattr(value, "variables", ()))
        try:
            # As the pickler does itself.
            own = copyreg.dispatch_table.get(type(value))
            reduced = own(value) if own is not None else value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except REFUSED:
            return _identity(value)
        stateless = package in sys.stdlib_module_names and package not in _CONTAINERS
        return _identity(value) if stateless else reduced


_CONTAINERS = ("builtins", "collections", "functools", "types")


def _identity(*values: Any) -> tuple[Any, ...]:
    return bytes, (repr([id(value) for value in values]).encode(),)


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
    if isinstance(before, dict | set | list | np.ndarray):
        if not _refilled(before, after):
            return False
        # Those of a class of yours may have attributes.
        if hasattr(before, "__dict__"):
            before.__dict__.update(after.__dict__)
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


def _refilled(before: Any, after: Any) -> bool:
    """Give a container the items of another one; return False if it cannot have them."""
    if isinstance(before, np.ndarray):
        fits = before.shape == after.shape and before.dtype == after.dtype and before.flags.writeable
        if fits:
            before[...] = after
        return fits
    if isinstance(before, list):
        list.__setitem__(before, slice(None), after)
        return True
    # The methods of a class of yours may do more.
    kind: Any = next(base for base in type(before).__mro__ if base.__module__ in ("builtins", "collections"))
    kind.clear(before)
    kind.update(before, after)
    return True
