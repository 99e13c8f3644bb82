"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hpo import package_names

if TYPE_CHECKING:
    from hpo.errors import HpoError
    from hpo.python.launch import launch, load_study
    from hpo.python.study import Study
    from objectives.augment import Augmentation, Mixing
    from objectives.base import DataOptions, Objective
    from objectives.errors import DivergedError, Infeasible
    from objectives.keras_objective import KerasObjective
    from objectives.local_run import LocalRun
    from objectives.spaces.conditions import When, at_least, at_most

__all__ = [
    "Augmentation",
    "DataOptions",
    "DivergedError",
    "HpoError",
    "Infeasible",
    "KerasObjective",
    "LocalRun",
    "Mixing",
    "Objective",
    "Study",
    "When",
    "at_least",
    "at_most",
    "launch",
    "load_study",
]

_HOMES = {
    "Augmentation": "objectives.augment",
    "DataOptions": "objectives.base",
    "DivergedError": "objectives.errors",
    "HpoError": "hpo.errors",
    "Infeasible": "objectives.errors",
    "KerasObjective": "objectives.keras_objective",
    "LocalRun": "objectives.local_run",
    "Mixing": "objectives.augment",
    "Objective": "objectives.base",
    "Study": "hpo.python.study",
    "launch": "hpo.python.launch",
    "load_study": "hpo.python.launch",
    "When": "objectives.spaces.conditions",
    "at_least": "objectives.spaces.conditions",
    "at_most": "objectives.spaces.conditions",
}
"""Modules of public names, imported on first use: every command imports `hpo`, which must stay light."""

# Before anything imports them: a file of yours may have the same name.
package_names.reserve()

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
