"""Errors of users, each a class whose message names the next step.

This module imports nothing, so that `storage` and `objectives` may raise them too.
"""

from __future__ import annotations


class HpoError(Exception):
    """Base of all errors that are printed as one line, with exit code 1."""


class UsageError(HpoError):
    """The command line holds a wrong name or value; exit code 2."""


class UnknownObjectiveError(UsageError):
    """No objective of that name is shipped, and it is neither `module:Class` nor `file.py:Class`."""


class ObjectiveBrokenError(HpoError):
    """The objective's own code raised while it was being imported or checked."""


class ObjectiveFileError(HpoError):
    """The file of a study's objective may be written by other users."""


class ObjectiveFailedError(HpoError):
    """The first trials all failed with the same error; `traceback` is printed once, above the message."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class UnknownParameterError(UsageError):
    """`--param` names a parameter that the objective's space does not have."""


class InvalidParameterError(UsageError):
    """`--param` gives a value or a range that does not lie inside the objective's space."""


class UnknownStudyError(UsageError):
    """The storage has no study of that name."""


class StudyConflictError(HpoError):
    """The study exists with other options or another search space than requested."""


class StudyLostError(HpoError):
    """The study or its database was deleted or replaced while a process trained."""


class NoResultError(HpoError):
    """The study has no complete trial yet, so there is no best one."""


class DataMissingError(HpoError):
    """The data set is not in the data directory and cannot be downloaded."""


class DataDamagedError(HpoError):
    """A data file cannot be read, or its contents are not as expected."""


class StorageUrlError(UsageError):
    """The storage URL does not name a PostgreSQL database."""


class StorageUnreachableError(HpoError):
    """The database does not answer."""


class SchemaTooNewError(HpoError):
    """The database was migrated by a newer version of hpo-service."""


class AgentSilentError(HpoError):
    """The database has no recent heartbeat of an agent of this host."""


class StudyDamagedError(HpoError):
    """The rows of a study hold values that this service does not write."""


class BackupFileError(HpoError):
    """A file given to `hpo restore` is not a complete backup of a study."""


class EmbeddedServerError(HpoError):
    """The embedded PostgreSQL could not be started."""


class DiskFullError(HpoError):
    """The disk of checkpoints or results is full."""


class FileNotWritableError(HpoError):
    """A file or folder that the user chose cannot be written."""


class ResultsNotWritableError(FileNotWritableError):
    """The results folder, or a file in it, cannot be written."""


class RetrainRunningError(HpoError):
    """Another `hpo retrain` is training the same configuration of the study with these checkpoints."""


class ConfigFileError(HpoError):
    """A file given with `--config` is missing or is not an exported configuration."""


class ImportSourceError(HpoError):
    """A storage or study given to `hpo import --from` cannot be read, or does not fit the study."""


class GpuMissingError(HpoError):
    """A GPU was requested on a host without one."""


class MissingDependencyError(HpoError):
    """An optional package that the chosen option needs is not installed."""


class ModelFileError(HpoError):
    """A retrained model is not on this host, or cannot be read, run or exported."""
