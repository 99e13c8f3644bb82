"""Errors that concern one trial, and not its study or the database."""

from __future__ import annotations

from hpo.errors import HpoError
from storage.attempts import LeaseLostError
from storage.connection.retry import is_of_database


class TrialFinishedError(Exception):
    """The trial is closed in Optuna."""


class TrialClosedError(LeaseLostError):
    """The trial was closed with plain Optuna while it was being trained."""


def is_of_trial(error: Exception) -> bool:
    """Whether an error comes from the values of one trial, and not from the database, a lease or the user's setup."""
    return not isinstance(error, HpoError | LeaseLostError) and not is_of_database(error)
