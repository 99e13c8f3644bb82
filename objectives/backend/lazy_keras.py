"""Parts of Keras that objectives rarely use, imported on their first use.

Keras imports pandas to recognize its tables, scikit-learn for its wrappers, Matplotlib for its galleries of images and
IPython for an editor of files wherever they are installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

MODULES = frozenset(
    {
        "keras.visualization",
        "keras.src.visualization",
        "keras.wrappers",
    }
)
"""Modules that nothing else in Keras needs."""

PACKAGES = {
    "keras.src.trainers.data_adapters.array_slicing": "pandas",
    "keras.src.saving.file_editor": "IPython",
}
"""Modules of Keras, each with a package that it imports if it can and needs for what few objectives do."""


class _LazyFinder:
    """Finds these modules as Python does, and postpones their execution until an attribute is read."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES and name not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = (
                LazyLoader(spec.loader) if name in MODULES else _Without(spec.loader, PACKAGES[name])
            )
        return spec


class _Without(Loader):
    """Executes a module with a stand-in for a package, unless that is imported or missing."""

    def __init__(self, loader: Loader, package: str) -> None:
        self._loader = loader
        self._package = package

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with _stand_in(self._package):
            self._loader.exec_module(module)


@contextmanager
def _stand_in(package: str) -> Iterator[None]:
    # Another thread that imports the package in this moment would get the stand-in.
    if package in sys.modules or PathFinder.find_spec(package) is None:
        yield
        return
    stand_in = sys.modules[package] = _Package(package)
    try:
        yield
    finally:
        if sys.modules.get(package) is stand_in:
            del sys.modules[package]


class _Package(ModuleType):
    """Stands in for a package that is imported once one of its functions is needed; its classes match no object before.

    An object of a class cannot exist before the package is imported.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        is_class, imported = name[:1].isupper(), sys.modules.get(self.__name__) not in (None, self)
        if imported or not is_class:
            return getattr(importlib.import_module(self.__name__), name)
        return _Class(name, (), {"__module__": self.__name__})


class _Class(type):
    """Stands in for a class of a package that may be imported later."""

    def __instancecheck__(cls, instance: object) -> bool:
        module = sys.modules.get(cls.__module__)
        return module is not None and isinstance(instance, getattr(module, cls.__name__))


def postpone_parts() -> None:
    """Postpone the import of these modules in this process; those that are imported already stay."""
    if _LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LazyFinder)
