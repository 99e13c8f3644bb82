"""The names `objectives` and `storage`, which are packages of this service, and may be files of yours as well.

This service gets its packages, even if the import path leads to others first. Names that they lack are taken from a
file or package of yours on the path, so that `from storage import read_scans` works next to `storage.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAMES = ("objectives", "storage")
_ROOT = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - no pathlib in every command


def reserve() -> None:
    """Let the names lead to our packages in this process, also where it has imported modules of yours by them."""
    sys.meta_path.insert(0, _Ours())
    sys.meta_path.append(_Yours())
    for package in NAMES:
        module = sys.modules.get(package)
        if module is not None and not _is_ours(package, file := getattr(module, "__file__", None) or ""):
            # Of a package, its `__init__.py`.
            parents = 2 if hasattr(module, "__path__") else 1
            folder = os.path.join(file, *[os.pardir] * parents)  # noqa: PTH118
            _YOURS[package] = _name_in(os.path.normpath(folder), package)
            sys.modules[_YOURS[package]] = sys.modules.pop(package)


def of_user(package: str, name: str) -> Any:
    """Return an attribute of your module that has the name of one of our packages.

    Raises:
        AttributeError: there is none.
    """
    module = None if name.startswith("__") else _module_name(package)
    if module is not None:
        with suppress(AttributeError):
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


_YOURS: dict[str, str] = {}
"""Names of our packages to names of your modules."""


def _module_name(package: str) -> str | None:
    """Return the name of your module that the import path has under a name of ours; None if there is none."""
    if package not in _YOURS:
        for folder in map(os.path.realpath, sys.path):
            spec = PathFinder.find_spec(package, [folder])
            if spec is not None and not _is_ours(package, spec.origin or f"{folder}/{package}/"):
                _YOURS[package] = _name_in(folder, package)
                break
    return _YOURS.get(package)


def _name_in(folder: str, package: str) -> str:
    from pathlib import Path

    from hpo import user_code

    return user_code.name_in(Path(os.path.realpath(folder)), package)


def _is_ours(package: str, file: str) -> bool:
    return f"{os.path.realpath(file)}{os.sep}".startswith(os.path.join(_ROOT, package, ""))  # noqa: PTH118


class _Ours(MetaPathFinder):
    """Finds our packages next to `hpo`."""

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [_ROOT], target) if fullname in NAMES else None


class _Yours(MetaPathFinder, Loader):
    """Imports a module of a package of yours where ours has none of that name."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        module = self._source(fullname)
        if module is None or importlib.util.find_spec(module) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the placeholder to Python; `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        found = self._source(module.__name__)
        assert found is not None
        sys.modules[module.__name__] = importlib.import_module(found)

    def _source(self, fullname: str) -> str | None:
        """Return the name of your module, if there is a package of yours."""
        package, _, rest = fullname.partition(".")
        found = _module_name(package) if package in NAMES and rest else None
        if found is None or not hasattr(importlib.import_module(found), "__path__"):
            return None
        return f"{found}.{rest}"
