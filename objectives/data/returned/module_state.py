"""Variables that a data function sets in modules of yours, such as a vocabulary that `build` reads.

It runs in a process of its own, so the variables that it sets are handed back with its arrays, as far as they can be.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hpo import user_code
from objectives import code
from objectives.data.returned.variables import FIXED, REFUSED, changed_in_place, fingerprint, pickled

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
            (place, name): (value, fingerprint(value))
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
        # Modules that were imported since are imported by the other process, with their values that cannot be pickled.
        imported = _importable(self._yours(sys.modules.keys() - self._imported))
        for place, variables in self._places(self._modules | imported):
            for name, value in _variables(place, variables):
                if self._is_same(place, name, value):
                    continue
                try:
                    pickled(value)
                except REFUSED:
                    refused += [name] if place[0] not in imported else []
                else:
                    found.setdefault(place, {})[name] = value
        if refused:
            raise UnshareableError(", ".join(refused[:5]))
        try:
            # At once: two variables may hold the same object.
            return pickled(found) if found else b""
        except REFUSED as exc:
            raise UnshareableError(
                ", ".join([name for values in found.values() for name in values][:5])
            ) from exc

    def apply(self, changes: bytes) -> None:
        """Set the variables that `changes` has returned in another process; objects keep their identity."""
        found: Changes = pickle.loads(changes) if changes else {}
        modules = _imported(name for name, _ in found if name)
        places = dict(self._places(self._modules | modules)) if found else {}
        for place, values in found.items():
            for name, value in values.items() if place in places else ():
                if not changed_in_place(places[place].get(name, _ABSENT), value):
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
                and not _is_installed(name, path)
            ):
                found[name] = module
        return found

    def _is_same(self, place: Place, name: str, value: Any) -> bool:
        before, known = self._before.get((place, name), (_ABSENT, None))
        equal = type(value) is type(before) and isinstance(value, FIXED) and value == before
        return (value is before or equal) and fingerprint(value) == known

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
_SERVICE = Path(__file__).parents[3]
_FOREIGN = (
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")),
    *(f"{_SERVICE / name}{os.sep}" for name in ("hpo", "objectives", "storage")),
)


def _imported(names: Iterable[str]) -> dict[str, ModuleType]:
    """Return modules by name, without those that cannot be imported here: no code of yours could read them either."""
    found = {}
    for name in names:
        with suppress(ImportError):
            found[name] = importlib.import_module(name)
    return found


def _is_installed(name: str, path: Path) -> bool:
    """Return whether a module is of an installed package, also of another environment or in a folder of its own."""
    if {"site-packages", "dist-packages"}.intersection(path.parts):
        return True
    depth = name.count(".") + (path.name == "__init__.py")
    return depth < len(path.parents) and _has_packages(path.parents[depth])


@lru_cache
def _has_packages(folder: Path) -> bool:
    return any(folder.glob("*.dist-info"))


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
