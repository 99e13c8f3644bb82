"""Parts of Keras that objectives rarely use, imported on their first use.

Keras imports scikit-learn for its wrappers and Matplotlib for its galleries of images wherever they are installed:
a quarter of the processor time of `import keras`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

MODULES = frozenset({"keras.visualization", "keras.src.visualization", "keras.wrappers"})
"""Modules that nothing else in Keras needs."""


class _LazyFinder:
    """Finds these modules as Python does, and postpones their execution until an attribute is read."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def postpone_parts() -> None:
    """Postpone the import of these modules in this process; those that are imported already stay."""
    if _LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LazyFinder)
