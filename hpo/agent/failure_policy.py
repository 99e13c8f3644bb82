"""The failures after which a study's agents stop: the objective is broken, or no trial ever finishes.

Failures are counted for the study, not for an agent: a service manager that restarts agents would never end
otherwise. Setting the state to `run`, by `hpo launch` or `hpo resume`, resets the count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hpo import formatting
from hpo.agent.store.trial_store import TrialStore
from hpo.errors import NoResultError, ObjectiveFailedError
from hpo.outcomes import Outcome
from objectives.errors import FigureUnknownError, MetricUnknownError
from storage.budget import Failure

SAME_BUG = 3
"""Number of trials with the same bug, before any has finished, after which agents stop."""

MOST_REJECTED = 200
"""Number of configurations in a row that violate a constraint, after which agents stop: each costs a model's build."""

SAME_REJECTED = 20
"""Number of them after which agents stop if the figure is the same in each: it does not depend on the parameters."""

_NAMES = {Outcome.OUT_OF_MEMORY: "out of memory"}
_REMEDIES = {
    Outcome.OUT_OF_MEMORY: "use fewer --workers, a larger --memory-per-worker or --gpu-share if you set one, or"
    " smaller models and batches (--param), in another study",
    Outcome.DIVERGED: "narrow the search space to smaller steps (--param) in another study",
    Outcome.INFEASIBLE: "narrow the search space to configurations that can be built (--param), or widen the bound that"
    " they violate (--constraint), in another study",
}
_OTHER_REMEDY = "use another --pruner in another study, or more --trials"

_OF_ALL_TRIALS = (MetricUnknownError.__name__, FigureUnknownError.__name__)
"""Beginnings of errors that do not depend on a trial's configuration."""

_FRAME = re.compile(r'^  File ".*", line \d+, in .*$', re.MULTILINE)


def reason_to_stop(store: TrialStore, max_failed: int) -> tuple[ObjectiveFailedError, bool] | None:
    """Return the error to stop with, if any, and whether to stop without waiting for running epochs."""
    counts, failures = store.failures(max(max_failed, SAME_BUG))
    # A trial that is paused shows as well as a finished one that the objective works.
    if counts.judged == 0 and (error := same_bug(failures, store.name, min(SAME_BUG, max_failed))):
        return error, True
    if len(failures) >= max_failed:
        return too_many(failures, store.name, counts.failing, max_failed), False
    if counts.rejected and (found := none_feasible(store)) is not None:
        return found, False
    return None


def same_bug(failures: Sequence[Failure], study: str, at_least: int) -> ObjectiveFailedError | None:
    """Return the error to stop with if `at_least` trials have failed of one bug, or one for want of its metric."""
    times = Counter(map(_bug, failures))
    for failure in failures:
        # That no report has the metric or a figure does not depend on the configuration.
        needed = 1 if failure.error.startswith(_OF_ALL_TRIALS) else at_least
        if times[_bug(failure)] >= needed:
            return ObjectiveFailedError(
                f"{formatting.counted(times[_bug(failure)], 'trial has', 'trials have')} failed with {failure.error},"
                f" and none has finished: {_remedy(failure, study)}, then hpo launch or hpo resume",
                failure.traceback,
            )
    return None


def too_many(failures: Sequence[Failure], study: str, failing: int, max_failed: int) -> ObjectiveFailedError:
    """Return the error to stop with after `--max-failed` failures; the last failure comes first."""
    last = failures[0]
    hint = " (raise hpo.Infeasible where a configuration cannot work)" if last.outcome is Outcome.BUG else ""
    return ObjectiveFailedError(
        f"{formatting.counted(failing, 'trial has', 'trials have')} failed (--max-failed {max_failed}), the last with:"
        f" {last.error}{hint}; hpo trials --study {study} lists them, hpo launch or hpo resume resets the count",
        last.traceback,
    )


def none_feasible(store: TrialStore) -> ObjectiveFailedError | None:
    """Return the error to stop with if too many configurations in a row were rejected, else None."""
    found = store.rejections()
    remedy = (
        f"narrow or widen the space (hpo launch --study {store.name} --param … --space change), or give another study a"
        " wider bound"
    )
    if found.alike and found.number >= SAME_REJECTED:
        return ObjectiveFailedError(
            f"{found.number} configurations in a row were rejected with the same figure: {found.reason}: {remedy}"
        )
    if found.number < MOST_REJECTED:
        return None
    return ObjectiveFailedError(
        f"{found.number} configurations in a row violate a constraint, and were not trained; of the last one,"
        f" {found.reason}: {remedy}; hpo launch or hpo resume resets the count"
    )


def all_rejected(number: int, study: str) -> NoResultError:
    """Return the error of a finite space without a configuration that fulfils the constraints."""
    return NoResultError(
        f"no trial of the study is complete: all {number} configurations of the space violate a constraint: give"
        f" another study a wider bound, or a wider space; hpo trials --study {study} lists them"
    )


def none_complete(ends: Sequence[tuple[Outcome, int, str]], study: str) -> NoResultError:
    """Return the error of a study that has spent its budget without a complete trial."""
    numbers = ", ".join(f"{number} {_NAMES.get(outcome, outcome)}" for outcome, number, _ in ends)
    error = next((f", the last with {error}" for _, _, error in ends if error), "")
    remedies = [_REMEDIES[outcome] for outcome, _, _ in ends if outcome in _REMEDIES] or [_OTHER_REMEDY]
    return NoResultError(
        f"no trial of the study is complete ({numbers}{error}): {remedies[0]}; hpo trials --study {study} lists them"
    )


def _bug(failure: Failure) -> tuple[str, str]:
    """Return the kind of error and its place, which failures of one bug share; messages may name values."""
    if not failure.traceback:
        return failure.outcome, failure.error
    frames = _FRAME.findall(failure.traceback)
    return failure.error.partition(":")[0], frames[-1] if frames else ""


def _remedy(failure: Failure, study: str) -> str:
    if failure.error.startswith(FigureUnknownError.__name__):
        return "name one of these in another study, or give it with run.measure() before the first epoch"
    if failure.outcome is Outcome.BUG:
        return (
            "fix the objective, or raise hpo.Infeasible where a configuration cannot work"
            f" (hpo trials --study {study} lists them)"
        )
    return f"read their logs (hpo logs --study {study}) and fix the cause"
