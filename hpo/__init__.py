"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.study.dataframes import LoadedStudy
    from objectives.augment import Augmentation
    from objectives.base import Objective
    from objectives.errors import Infeasible
    from objectives.keras_objective import KerasObjective

__all__ = ["Augmentation", "Infeasible", "KerasObjective", "Objective", "load_study"]

_HOMES = {
    "Augmentation": "objectives.augment",
    "Infeasible": "objectives.base",
    "KerasObjective": "objectives.keras_objective",
    "Objective": "objectives.base",
}
"""Modules of objectives' classes, imported on first use: every command imports `hpo`, which must stay light."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def load_study(name: str, storage: str | None = None) -> LoadedStudy:
    """Return a study for analysis in Python: `hpo.load_study("mnist-cnn").results().trials`.

    `storage` is a PostgreSQL URL; by default HPO_STORAGE or the embedded database of HPO_HOME, as for the
    command line.

    Raises:
        UnknownStudyError: no study has that name.
        StorageUnreachableError: the database does not answer.
    """
    from dataclasses import replace

    from hpo.settings import Settings
    from hpo.study.catalog import find_study

    # Imported here because every command imports `hpo`, which must stay light.
    from hpo.study.dataframes import LoadedStudy
    from storage.engine import open_database

    settings = Settings.from_environment()
    if storage is not None:
        settings = replace(settings, storage=storage)
    with open_database(settings.storage, settings.home) as database:
        find_study(database, name)
    return LoadedStudy(name, settings)
