"""Variables that a data function sets in modules of yours, such as a vocabulary that `build` reads.

It runs in a process of its own, so what it sets there is handed back with its arrays, as far as it can be.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from hpo import user_code
from objectives import code

MOST_BYTES = 1 << 26
"""Largest pickle of a variable that is compared."""
MOST_VALUES = 1 << 16
"""Number of values of an array that are compared, evenly spread."""

_FRAMEWORKS = frozenset({"tensorflow", "keras", "jax", "jaxlib", "torch", "polars"})
"""Packages whose objects start threads or devices when they are unpickled."""
_FIXED = (
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

_INSTALLATIONS = {"site-packages", "dist-packages"}
"""Folders of installed packages, also those of other environments."""

Place = tuple[str, str]
"""Name of a module, and of a class in it; the class is empty for the module's own variables."""
Changes = dict[Place, dict[str, Any]]


class UnshareableError(Exception):
    """Variables cannot be handed back; the message lists them."""


class ModuleState:
    """The variables of your modules, as they were when this object was made."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._globals: MutableMapping[str, Any] = getattr(function, "__globals__", {})
        own = getattr(function, "__module__", None) or type(function).__module__
        module = sys.modules.get(own)
        file = getattr(module, "__file__", None)
        self._root = user_code.package_root(Path(file).resolve()) if isinstance(file, str) else None
        self._imported = frozenset(sys.modules)
        self._modules = self._yours(self._imported)
        if isinstance(module, ModuleType):
            self._modules[own] = module
        self._before = {
            (place, name): (value, _fingerprint(value))
            for place, variables in self._places(self._modules)
            for name, value in _variables(place, variables)
        }

    def changes(self) -> bytes:
        """Return the variables that were set or changed since, pickled; empty if there are none.

        Raises:
            UnshareableError: some cannot be pickled, or are objects of a framework.
        """
        found: Changes = {}
        refused = []
        # Those that were imported since are imported by the other process, so what cannot be pickled is there too.
        imported = _importable(self._yours(sys.modules.keys() - self._imported))
        for place, variables in self._places(self._modules | imported):
            for name, value in _variables(place, variables):
                if self._is_same(place, name, value):
                    continue
                try:
                    _pickled(value)
                except _REFUSED:
                    refused += [name] if place[0] not in imported else []
                else:
                    found.setdefault(place, {})[name] = value
        if refused:
            raise UnshareableError(", ".join(refused[:5]))
        # At once: two variables may hold the same object.
        return _pickled(found) if found else b""

    def apply(self, changes: bytes) -> None:
        """Set the variables that `changes` has returned in another process; objects keep their identity."""
        found: Changes = pickle.loads(changes) if changes else {}
        modules = {name: importlib.import_module(name) for name, _ in found if name}
        places = dict(self._places(self._modules | modules)) if found else {}
        for place, values in found.items():
            for name, value in values.items():
                if not _changed_in_place(places[place].get(name, _ABSENT), value):
                    self._set(place, name, value)

    def _yours(self, names: Iterable[str]) -> dict[str, ModuleType]:
        """Return those of the imported modules whose files are next to that of the function, or below its folder."""
        found = {}
        for name in names:
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
            # Nearly all of some thousand modules are installed, and resolving their paths takes a quarter of a second.
            if self._root is None or not isinstance(file, str) or file.startswith(_FOREIGN):
                continue
            path = Path(file).resolve()
            if (
                isinstance(module, ModuleType)
                and path.is_relative_to(self._root)
                and not code.is_foreign(path, self._root)
                and not _INSTALLATIONS.intersection(path.parts)
            ):
                found[name] = module
        return found

    def _is_same(self, place: Place, name: str, value: Any) -> bool:
        before, fingerprint = self._before.get((place, name), (_ABSENT, None))
        equal = type(value) is type(before) and isinstance(value, _FIXED) and value == before
        return (value is before or equal) and _fingerprint(value) == fingerprint

    def _set(self, place: Place, name: str, value: Any) -> None:
        module, owner = place
        if owner:
            setattr(vars(sys.modules[module])[owner], name, value)
        elif module:
            setattr(sys.modules[module], name, value)
        else:
            self._globals[name] = value

    def _places(self, modules: Mapping[str, ModuleType]) -> Iterator[tuple[Place, MutableMapping[str, Any]]]:
        # Some modules have two names.
        known = {id(vars(module)): (name, module) for name, module in modules.items()}
        if id(self._globals) not in known:
            # A function of a notebook has variables without a module.
            yield ("", ""), self._globals
        for name, module in known.values():
            yield (name, ""), vars(module)
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == module.__name__:
                    yield (name, attribute), dict(vars(value))


_ABSENT = object()
_REFUSED = (
    pickle.PicklingError,
    TypeError,
    AttributeError,
    ValueError,
    RecursionError,
    NotImplementedError,
    OSError,
)


_SERVICE = Path(__file__).parents[3]
_FOREIGN = (
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")),
    *(f"{_SERVICE / name}{os.sep}" for name in ("hpo", "objectives", "storage")),
)


def _importable(modules: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    """Return the modules that another process can import, not those that a library has generated."""
    found = {}
    for name, module in modules.items():
        # Of a module that is imported, its own word would be taken.
        del sys.modules[name]
        try:
            with suppress(ImportError, ValueError, AttributeError):
                if importlib.util.find_spec(name) is not None:
                    found[name] = module
        finally:
            sys.modules[name] = module
    return found


def _variables(place: Place, variables: MutableMapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in list(variables.items()):
        # Methods and all else that a definition makes are no state.
        defined = isinstance(value, type) or (place[1] and hasattr(type(value), "__get__"))
        if not (name.startswith(("__", "_abc_")) or defined):
            yield name, value


def _fingerprint(value: Any) -> str | None:
    """Return a digest of an object that may be changed in place; None if it is not compared."""
    if isinstance(value, _FIXED):
        return None
    content = _Bounded()
    with suppress(*_REFUSED, _TooLargeError):
        _Sampler(content).dump(value)
        return content.digest.hexdigest()
    return None


class _TooLargeError(Exception):
    """A pickle is longer than it may be."""


class _Bounded(io.RawIOBase):
    """A file that keeps only the digest of what is written to it."""

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


def _pickled(value: Any) -> bytes:
    content = io.BytesIO()
    _Strict(content, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return content.getvalue()


def _changed_in_place(before: Any, after: Any) -> bool:
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
