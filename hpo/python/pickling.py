"""How objects are pickled for other processes: by name where these can import them, otherwise by value."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cloudpickle

PROTOCOL = 4
"""Protocol by which parts of a value are found: later ones leave buffers out."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which also carries functions with a cache."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made of others, or NotImplemented."""
        if isinstance(obj, functools._lru_cache_wrapper) and not is_importable(obj):
            options = obj.cache_parameters()
            return _cached, (obj.__wrapped__, options["maxsize"], options["typed"])
        return super().reducer_override(obj)

    def reduced(self, value: Any) -> Any:
        """Return the parts of which a value is made again, as pickling finds them.

        Raises:
            Exception: it cannot be pickled.
        """
        found = self.reducer_override(value)
        if found is not NotImplemented:
            return found
        reduce = self.dispatch_table.get(type(value))
        return reduce(value) if reduce is not None else value.__reduce_ex__(PROTOCOL)


def is_importable(value: Any) -> bool:
    """Return whether other processes find a module, or a function or class in its module."""
    if isinstance(value, ModuleType):
        return True
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is value


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)
