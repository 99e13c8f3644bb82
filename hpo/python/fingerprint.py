"""Digests of the values that an objective uses: the same in another process if the value is."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from hpo.python.pickling import Pickler, is_importable

DIGITS = 16

PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Fingerprints:
    """Digests of values, which are followed as pickling follows them: all that is carried counts."""

    def __init__(self, found: Callable[[Any], None]) -> None:
        """`found` gets the functions, classes and modules in the values: only their names belong to the digest."""
        self._found = found
        self._known: dict[int, bytes] = {}
        # Alive, so that no other object gets the id of a known one.
        self._alive: list[Any] = []

    def of(self, value: Any) -> str:
        """Return the digest of a value."""
        try:
            return self._digest(value).hex()[:DIGITS]
        except RecursionError:
            # Pickling in C nests deeper.
            with suppress(Exception):
                file = io.BytesIO()
                Pickler(file).dump(value)
                return hashlib.sha256(file.getvalue()).hexdigest()[:DIGITS]
            return type(value).__name__
        finally:
            self._known.clear()
            self._alive.clear()

    def _digest(self, value: Any) -> bytes:
        if id(value) in self._known:
            return self._known[id(value)]
        # The value of one that holds itself.
        self._known[id(value)] = b"itself"
        self._alive.append(value)
        found = hashlib.sha256(type(value).__qualname__.encode())
        for part in self._parts(value):
            found.update(b"%d:" % len(part))
            found.update(part)
        self._known[id(value)] = found.digest()
        return found.digest()

    def _parts(self, value: Any) -> Iterator[bytes | memoryview]:
        kind = type(value)
        if kind in PLAIN:
            yield repr(value).encode(errors="backslashreplace")
        elif kind is np.ndarray and not value.dtype.hasobject:
            yield f"{value.dtype} {value.shape}".encode()
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        elif isinstance(value, ModuleType | FunctionType | MethodType | type):
            module = value.__name__ if isinstance(value, ModuleType) else value.__module__
            yield f"{module}.{getattr(value, '__qualname__', '')}".encode()
            self._found(value)
        elif kind in (list, tuple):
            yield from map(self._digest, value)
        elif kind is dict:
            yield from (self._digest(part) for item in value.items() for part in item)
        elif kind in (set, frozenset):
            yield from sorted(map(self._digest, value))
        else:
            yield from self._parts_of_object(value)

    def _parts_of_object(self, value: Any) -> Iterator[bytes]:
        if not is_importable(type(value)):
            self._found(type(value))
        yield self._digest(_parts_of_keras(value) or _reduced(value))


def _reduced(value: Any) -> Any:
    # One that cannot be pickled fails when it is carried to the trials, with the reason.
    with suppress(Exception):
        found = Pickler(io.BytesIO()).reduced(value)
        if isinstance(found, tuple):
            return tuple(list(part) if hasattr(part, "__next__") else part for part in found)
        return found
    return getattr(value, "__dict__", None)


def _parts_of_keras(value: Any) -> tuple[Any, ...] | None:
    """Return the parts of a model, layer or other object of Keras, whose pickle holds the time."""
    if not any(cls.__module__.partition(".")[0] == "keras" for cls in type(value).__mro__):
        return None
    # Classes of the user's may lack a configuration.
    with suppress(Exception):
        compiled = value.get_compile_config() if hasattr(value, "get_compile_config") else None
        weights = [np.asarray(variable) for variable in getattr(value, "variables", ())]
        return value.get_config(), compiled, weights
    return None
