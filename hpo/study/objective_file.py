"""The file of an objective that a study names, which is checked before it is imported unasked."""

from __future__ import annotations

from pathlib import Path

from hpo.errors import ObjectiveFileError
from hpo.ownership import replaceable_by_others


def check_objective_file(reference: str, study: str) -> None:
    """Raise ObjectiveFileError if the study names a file that another user could have written.

    Who can write to the database chooses the path, and who can write to the file chooses the code. A file that does
    not exist is reported by the loader.
    """
    source, _, name = reference.rpartition(":")
    if not source.endswith(".py") or not Path(source).is_file():
        return
    reason = replaceable_by_others(Path(source))
    if reason is not None:
        raise ObjectiveFileError(
            f"the objective of study {study} is not loaded, because other users could have changed it ({reason}): "
            f"correct the owner or the mode, or run it deliberately with "
            f"hpo launch --study {study} --objective {source}:{name}"
        )
