"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpo.study.dataframes import LoadedStudy

__all__ = ["load_study"]


def load_study(name: str, storage: str | None = None) -> LoadedStudy:
    """A study to look at from Python: `hpo.load_study("mnist-cnn").results().trials`.

    `storage` is a PostgreSQL URL; without one, HPO_STORAGE or the embedded database of HPO_HOME is read, as by
    the command line.

    Raises:
        UnknownStudyError: there is no study of that name.
        StorageUnreachableError: the database does not answer.
    """
    from dataclasses import replace

    from hpo.settings import Settings
    from hpo.study.catalog import find_study

    # Imported here: `import hpo` stays light, for every command imports it.
    from hpo.study.dataframes import LoadedStudy
    from storage.engine import open_database

    settings = Settings.from_environment()
    if storage is not None:
        settings = replace(settings, storage=storage)
    with open_database(settings.storage, settings.home) as database:
        find_study(database, name)
    return LoadedStudy(name, settings)
