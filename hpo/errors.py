"""Every mistake a user can make, as a class whose message says what to do next.

This module imports nothing, so that `storage` and `objectives` may raise these too.
"""

from __future__ import annotations


class HpoError(Exception):
    """Base of all errors that are shown to the user as one line, with exit code 1."""


class UsageError(HpoError):
    """A wrong name or value given by the user; shown as one line, with exit code 2."""


class UnknownObjectiveError(UsageError):
    """No objective of that name is shipped, and it is neither `module:Class` nor `file.py:Class`."""


class ObjectiveBrokenError(HpoError):
    """The objective's own code raised while it was being imported or checked."""


class ObjectiveFailedError(HpoError):
    """The first trials all failed of the same error; `traceback` is shown once, above the message."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class UnknownParameterError(UsageError):
    """`--param` names a parameter that the objective's space does not have."""


class InvalidParameterError(UsageError):
    """`--param` gives a value or a range that does not lie inside the objective's space."""


class UnknownStudyError(UsageError):
    """There is no study of that name in this storage."""


class StudyConflictError(HpoError):
    """The study exists with other options (or another search space) than those asked for."""


class NoResultError(HpoError):
    """The study has no complete trial yet, so there is no best one."""


class DataMissingError(HpoError):
    """The data set is neither in the data directory nor can it be downloaded."""


class DataDamagedError(HpoError):
    """A data file is there but cannot be read or does not hold what it must."""


class StorageUrlError(UsageError):
    """The storage URL is not one of a PostgreSQL database."""


class StorageUnreachableError(HpoError):
    """The database does not answer."""


class SchemaTooNewError(HpoError):
    """The database was migrated by a newer version of hpo-service."""


class AgentSilentError(HpoError):
    """The database has not heard of an agent of this host."""


class BackupFileError(HpoError):
    """A file given to `hpo restore` is not a whole backup of a study."""


class EmbeddedServerError(HpoError):
    """The embedded PostgreSQL could not be started."""


class DiskFullError(HpoError):
    """No space is left where checkpoints or results are written."""


class FileNotWritableError(HpoError):
    """A file or folder that the user chose cannot be written."""


class ResultsNotWritableError(FileNotWritableError):
    """The folder of results, or a file in it, cannot be written."""


class RetrainRunningError(HpoError):
    """Another `hpo retrain` trains the same configuration of the same study on these checkpoints."""


class ConfigFileError(HpoError):
    """A file given with `--config` is missing or is not an exported config."""


class GpuMissingError(HpoError):
    """A GPU is asked for on a host that shows none."""


class MissingDependencyError(HpoError):
    """An optional package that the chosen option needs is not installed."""
