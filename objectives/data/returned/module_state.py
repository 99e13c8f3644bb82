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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import _lru_cache_wrapper, lru_cache
from itertools import takewhile
from pathlib import Path
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

from hpo import user_code
from objectives import code
from objectives.data.returned.holders import Holder, Place, of_callable, of_module, parts_of, variables_of
from objectives.data.returned.variables import FIXED, REFUSED, changed_in_place, fingerprint, pickled

Changes = dict[Place, dict[str, tuple[bool, Any]]]
"""Variables by their place and name: whether their object was changed in place, and its content."""


class UnshareableError(Exception):
    """Variables cannot be handed back; the message lists them."""


class ModuleState:
    """The variables of your modules, as they were when this object was made."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._parts = parts_of(function)
        own, file = _module_of(self._parts)
        module = sys.modules.get(own)
        self._globals: dict[str, Any] = next(filter(None, map(_globals, self._parts)), {})
        self._root = user_code.package_root(Path(file).resolve()) if file else None
        self._imported = frozenset(sys.modules)
        self._last_imported = next(reversed(sys.modules))
        self._modules = self._yours(self._imported)
        if isinstance(module, ModuleType):
            self._modules[own] = module
        self._before = {
            (holder.place, name): (value, fingerprint(value))
            for holder in self._holders(self._modules)
            for name, value in _variables(holder)
        }

    def changes(self) -> bytes:
        """Return the variables that were set or changed since, pickled; empty if there are none.

        Raises:
            UnshareableError: some cannot be pickled, or are objects of a framework.
        """
        found: Changes = {}
        refused = []
        # Modules that were imported since are imported by the other process, with their values that cannot be pickled.
        imported = _importable(self._yours(self._imported_since()))
        for holder in self._holders(self._modules | imported):
            for name, value in _variables(holder):
                before, known = self._before.get((holder.place, name), (_ABSENT, None))
                if _is_same(before, value) and fingerprint(value) == known:
                    continue
                try:
                    pickled(value)
                except REFUSED:
                    refused += [name] if holder.place[0] not in imported else []
                else:
                    found.setdefault(holder.place, {})[name] = value is before, value
        if refused:
            raise UnshareableError(", ".join(refused[:5]))
        try:
            # At once: two variables may hold the same object.
            return pickled(found) if found else b""
        except REFUSED as exc:
            raise UnshareableError(
                ", ".join([name for values in found.values() for name in values][:5])
            ) from exc

    def caches(self) -> list[object]:
        """Return all that functions of your modules keep: numbers of cached results, defaults and closures.

        They are no part of `changes`, because another process makes them itself. A generator is never equal.
        """
        found: list[object] = []
        for holder in self._holders(self._modules):
            for name, value in list(holder.variables.items()):
                function = getattr(value, "__func__", value)
                if isinstance(function, _lru_cache_wrapper):
                    found.append((holder.place, name, id(function), function.cache_info().misses))
                elif isinstance(function, FunctionType):
                    kept = function.__defaults__, function.__kwdefaults__, *variables_of(function).values()
                    found.append((holder.place, name, fingerprint(kept)))
                elif isinstance(value, GeneratorType):
                    found.append(object())
        return found

    def apply(self, changes: bytes) -> None:
        """Set the variables that `changes` has returned in another process; objects keep their identity."""
        found: Changes = pickle.loads(changes) if changes else {}
        modules = _imported(name for name, _ in found if name)
        holders = {holder.place: holder for holder in self._holders(self._modules | modules)} if found else {}
        rebound, known = [], dict[int, Any]()
        for place in found.keys() & holders.keys():
            for name, (in_place, value) in found[place].items():
                before = holders[place].variables.get(name, _ABSENT)
                if in_place and changed_in_place(before, value):
                    known[id(value)] = before
                else:
                    rebound.append((holders[place], name, value))
        for holder, name, value in rebound:
            holder.set(name, known.get(id(value), value))

    def _imported_since(self) -> list[str]:
        # A look at each of some thousand names would copy the pages that they share with the template.
        latest = takewhile(lambda name: name != self._last_imported, reversed(sys.modules))
        return [name for name in latest if name not in self._imported]

    def _yours(self, names: Iterable[str]) -> dict[str, ModuleType]:
        """Return those of the imported modules whose files are next to that of the function, or below its folder."""
        found = {}
        foreign: dict[str, bool] = {}
        for name in names:
            # Nearly all of some thousand modules are installed: for most, the file of their package is enough, and
            # resolving the paths of all would take a quarter of a second.
            package = name.partition(".")[0]
            if package not in foreign:
                file = getattr(sys.modules.get(package), "__file__", None)
                foreign[package] = isinstance(file, str) and file.startswith(_FOREIGN)
            if foreign[package]:
                continue
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
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

    def _holders(self, modules: Mapping[str, ModuleType]) -> Iterator[Holder]:
        # Some modules have two names.
        known = {id(vars(module)): (name, module) for name, module in modules.items()}
        if id(self._globals) not in known:
            # A function of a notebook has variables without a module.
            yield Holder(("", ""), self._globals, self._globals.__setitem__)
        yield from of_callable(self._parts)
        for name, module in known.values():
            yield from of_module(name, module)


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


def _variables(holder: Holder) -> Iterator[tuple[str, Any]]:
    for name, value in list(holder.variables.items()):
        # Methods and all else that a definition makes are not state.
        defined = isinstance(value, type) or (holder.place[1] and hasattr(type(value), "__get__"))
        if not (name.startswith(("__", "_abc_")) or defined):
            yield name, value


def _is_same(before: Any, value: Any) -> bool:
    return value is before or (
        type(value) is type(before) and isinstance(value, FIXED) and bool(value == before)
    )


def _globals(part: Any) -> dict[str, Any] | None:
    return part.__globals__ if isinstance(part, FunctionType) else None


def _module_of(parts: Iterable[Any]) -> tuple[str, str]:
    """Return the name and file of the module of a callable's parts, one of yours if there is one."""
    found = [getattr(part, "__module__", None) or type(part).__module__ for part in parts]
    files = [(name, str(getattr(sys.modules.get(name), "__file__", None) or "")) for name in found]
    return next(((name, file) for name, file in files if file and not file.startswith(_FOREIGN)), files[0])
