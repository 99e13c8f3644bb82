"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.errors import HpoError
    from hpo.python.launch import launch, load_study
    from hpo.python.study import Study
    from objectives.augment import Augmentation
    from objectives.base import Objective
    from objectives.conditions import When, at_least, at_most
    from objectives.errors import Infeasible
    from objectives.keras_objective import KerasObjective

__all__ = [
    "Augmentation",
    "HpoError",
    "Infeasible",
    "KerasObjective",
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
    "HpoError": "hpo.errors",
    "Infeasible": "objectives.errors",
    "KerasObjective": "objectives.keras_objective",
    "Objective": "objectives.base",
    "Study": "hpo.python.study",
    "launch": "hpo.python.launch",
    "load_study": "hpo.python.launch",
    "When": "objectives.conditions",
    "at_least": "objectives.conditions",
    "at_most": "objectives.conditions",
}
"""Modules of public names, imported on first use: every command imports `hpo`, which must stay light."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
