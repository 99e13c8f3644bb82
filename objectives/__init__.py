"""Objectives: their interface, a base class for Keras models, and the objectives shipped with the project."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from objectives.augment import Augmentation, Mixing
    from objectives.base import Objective
    from objectives.keras_objective import KerasObjective

__all__ = ["Augmentation", "KerasObjective", "Mixing", "Objective"]

_HOMES = {
    "Augmentation": "objectives.augment",
    "KerasObjective": "objectives.keras_objective",
    "Mixing": "objectives.augment",
    "Objective": "objectives.base",
}
"""Modules of `__all__`, imported on first use: a process that only needs the package must start quickly."""

_MOVED = {
    "objectives.cifar_cnn": "objectives.shipped.cifar_cnn",
    "objectives.cifar_resnet": "objectives.shipped.cifar_resnet",
    "objectives.conditions": "objectives.spaces.conditions",
    "objectives.datasets": "objectives.data.datasets",
    "objectives.digits_cnn": "objectives.shipped.digits_cnn",
    "objectives.mnist_cnn": "objectives.shipped.mnist_cnn",
    "objectives.mnist_resnet": "objectives.shipped.mnist_resnet",
    "objectives.splits": "objectives.data.splits",
}
"""Modules under their former names, which stand in users' objectives, their pickles and the references of studies."""


class _MovedModules(MetaPathFinder, Loader):
    """Imports a moved module, and no copy of it, when its old name is imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        return spec_from_loader(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the placeholder to Python; `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_MOVED[module.__name__])


sys.meta_path.append(_MovedModules())


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            from hpo.package_names import of_user

            return of_user(__name__, name)
        return getattr(importlib.import_module(_HOMES[name]), name)
