"""The cost of a search that follows from the measurement of its default configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo.planning.probe_run import Measurement
from hpo.search.pruners import epochs_left
from hpo.search.spec import StudySpec
from hpo.study.estimates import Estimate


@dataclass(frozen=True, kw_only=True)
class Work:
    """The part of a study that is left to train."""

    spec: StudySpec
    trials: int
    slots: int
    max_epochs: int | None = None
    """Epochs that `--max-epochs` leaves; None: no limit."""


def work_of(spec: StudySpec, trials: int, finished: int, trained_epochs: int, slots: int) -> Work:
    """Return the work of a study of so many trials, of which some have finished, and so many epochs are trained."""
    left = trials - finished
    if spec.configurations is not None:
        left = min(left, spec.configurations + (spec.repeats or 0) - finished)
    limit = None if spec.max_epochs is None else max(spec.max_epochs - trained_epochs, 0)
    return Work(spec=spec, trials=max(left, 0), slots=min(slots, max(left, 1)), max_epochs=limit)


def estimated(work: Work, found: Measurement, load_seconds: float, free_bytes: int) -> Estimate:
    """Return the estimate of the work."""
    spec, trials, epoch = work.spec, work.trials, found.epoch_seconds
    limit = spec.trial_timeout_seconds or math.inf
    if spec.epochs is None:
        least = most = None
        whole = min(found.trial_seconds or 0.0, limit)
        shortest = whole
    else:
        reached = min(
            spec.epochs, max(math.floor(limit / epoch), 1) if epoch and limit < math.inf else spec.epochs
        )
        most = trials * reached
        # Repeats of the best trial are neither pruned nor paused.
        repeats = min(spec.repeats or 0, trials)
        least = min(epochs_left(spec, trials - repeats, spec.epochs) + repeats * spec.epochs, most)
        whole = min(found.start_seconds + spec.epochs * epoch, limit)
        shortest = found.start_seconds + epoch * least / max(trials, 1)
        if work.max_epochs is not None:
            least, most = min(least, work.max_epochs), min(most, work.max_epochs)
    most_seconds = math.ceil(trials / work.slots) * whole
    least_seconds = min(max(whole if trials else 0.0, trials * shortest / work.slots), most_seconds)
    if spec.epochs is not None and work.max_epochs is not None:
        # Nothing is known of the trials over which they are spread.
        spent = work.max_epochs * (epoch + found.start_seconds / spec.epochs) / work.slots
        most_seconds, least_seconds = min(most_seconds, spent), min(least_seconds, spent)
    memory = found.memory
    return Estimate(
        slots=work.slots,
        trials=trials,
        epochs=spec.epochs,
        load_seconds=load_seconds,
        start_seconds=found.start_seconds,
        epoch_seconds=epoch,
        measured_epochs=found.measured_epochs,
        trial_seconds=whole,
        least_epochs=least,
        most_epochs=most,
        least_seconds=least_seconds,
        most_seconds=most_seconds,
        trial_bytes=None if memory is None else memory.each,
        shared_bytes=None if memory is None else memory.shared,
        free_bytes=free_bytes,
        checkpoint_bytes=found.checkpoint_bytes,
    )


def affordable(estimate: Estimate, seconds: float) -> tuple[int, int]:
    """Return the fewest and the most trials that can finish in a time after the objective is loaded."""
    if estimate.most_seconds <= seconds:
        return estimate.trials, estimate.trials
    fewest = math.floor(seconds / max(estimate.trial_seconds, 1e-9)) * estimate.slots
    most = math.floor(estimate.trials * seconds / max(estimate.least_seconds, 1e-9))
    return min(fewest, estimate.trials), min(max(most, fewest), estimate.trials)
