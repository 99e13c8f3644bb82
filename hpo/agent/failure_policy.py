"""When a study's agents give up: where the objective itself is broken, or where nothing ever finishes.

What has failed is counted for the study, not for an agent: a supervisor that starts agents again and again would
never come to an end else. Whoever has the study run, by `hpo launch` or `hpo resume`, starts the count anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hpo import formatting
from hpo.agent.trial_store import TrialStore
from hpo.errors import ObjectiveFailedError
from hpo.outcomes import Outcome
from storage.budget import Failure

SAME_BUG = 3
"""Trials that fail of one bug, before any has finished, after which the launch stops."""

_FRAME = re.compile(r'^  File ".*", line \d+, in .*$', re.MULTILINE)


def reason_to_stop(
    store: TrialStore, study: str, max_failed: int
) -> tuple[ObjectiveFailedError, bool] | None:
    """The error to stop with, if any, and whether to do so at once, or when running epochs have ended."""
    counts, failures = store.failures(max(max_failed, SAME_BUG))
    if counts.finished == 0 and (error := same_bug(failures, study, min(SAME_BUG, max_failed))):
        return error, True
    if len(failures) >= max_failed:
        return too_many(failures, study, counts.failing, max_failed), False
    return None


def same_bug(failures: Sequence[Failure], study: str, at_least: int) -> ObjectiveFailedError | None:
    """The error to stop with where so many have failed of one bug: all that the study's trials have shown."""
    times = Counter(map(_bug, failures))
    for failure in failures:
        if times[_bug(failure)] >= at_least:
            return ObjectiveFailedError(
                f"{formatting.counted(times[_bug(failure)], 'trial has', 'trials have')} failed with {failure.error},"
                f" and none has finished: {_remedy(failure, study)}, then hpo launch or hpo resume",
                failure.traceback,
            )
    return None


def too_many(failures: Sequence[Failure], study: str, failing: int, max_failed: int) -> ObjectiveFailedError:
    """The error to stop with where as many trials as `--max-failed` have failed, the last one first."""
    last = failures[0]
    return ObjectiveFailedError(
        f"{formatting.counted(failing, 'trial has', 'trials have')} failed (--max-failed {max_failed}), the last with:"
        f" {last.error}; hpo trials --study {study} lists them, and hpo launch or hpo resume counts anew",
        last.traceback,
    )


def _bug(failure: Failure) -> tuple[str, str]:
    """What failures of one bug share, whatever values their messages name: the kind of error, and its place."""
    if not failure.traceback:
        return failure.outcome, failure.error
    frames = _FRAME.findall(failure.traceback)
    return failure.error.partition(":")[0], frames[-1] if frames else ""


def _remedy(failure: Failure, study: str) -> str:
    if failure.outcome is Outcome.BUG:
        return f"mend the objective (hpo trials --study {study} lists them)"
    return f"see what they printed last (hpo logs --study {study}) and mend what ends them"
