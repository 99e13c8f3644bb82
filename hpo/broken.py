"""When a study's agents give up: where the objective itself is broken, or where nothing ever finishes.

What has failed is counted for the study, not for an agent: a supervisor that starts agents again and again would
never come to an end else. Whoever has the study run, by `hpo launch` or `hpo resume`, starts the count anew.
"""

from __future__ import annotations

from hpo.books import Books
from hpo.errors import ObjectiveFailedError

SAME_BUG = 3
"""Trials that fail of one bug, before any has finished, after which the launch stops."""


def same_bug(books: Books, study: str, max_failed: int) -> ObjectiveFailedError | None:
    """The error to stop with at once: all that the study's trials have shown is one bug."""
    most = min(SAME_BUG, max_failed)
    bug = books.same_bug(most)
    if bug is None:
        return None
    error, traceback = bug
    return ObjectiveFailedError(
        f"{most} trials have failed with {error}, and none has finished: mend the objective and run the same"
        f" command again (hpo trials --study {study} lists them)",
        traceback,
    )


def too_many(books: Books, study: str, max_failed: int) -> ObjectiveFailedError | None:
    """The error to stop with when running epochs have ended: as many trials as `--max-failed` have failed."""
    failed, error = books.failing()
    if failed < max_failed:
        return None
    return ObjectiveFailedError(
        f"{failed} trials have failed (--max-failed {max_failed}), the last with: {error};"
        f" hpo trials --study {study} lists them, and hpo launch or hpo resume counts anew"
    )
