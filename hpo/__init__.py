"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpo.study.dataframes import LoadedStudy

__all__ = ["load_study"]


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
    from storage.connection.engine import open_database

    settings = Settings.from_environment()
    if storage is not None:
        settings = replace(settings, storage=storage)
    with open_database(settings.storage, settings.home) as database:
        find_study(database, name)
    return LoadedStudy(name, settings)
