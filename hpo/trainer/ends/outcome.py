"""The outcome of an attempt, whatever code of its objective raises."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import NoReturn

from optuna.exceptions import TrialPruned

from hpo.devices.gpus import is_full
from hpo.errors import DiskFullError
from hpo.outcomes import Outcome
from hpo.trainer.checkpointing.checkpoints import CheckpointsError
from hpo.trainer.ends.failures import message_of, one_line, traceback_of
from hpo.trainer.messages import Finished
from hpo.trainer.output import flush_output
from hpo.trainer.run import TrainerRun
from objectives import values
from objectives.backend import is_disk_full, is_out_of_memory, may_be_out_of_memory
from objectives.base import Objective, Params
from objectives.errors import DivergedError, Infeasible, LaneEndedError, SharedFailureError
from objectives.runs.figures import ConstraintViolatedError
from objectives.spaces.choices import declared


def outcome_of(
    prepare: Callable[[], Objective],
    params: Params,
    run: TrainerRun,
    leave: Callable[[], NoReturn],
    place: AbstractContextManager[object] | None = None,
) -> Finished:
    """Train a configuration with the objective that `prepare` returns, in the context `place`, and return its end.

    `leave` is called if another process has to train it, which ends this one.
    """
    started = False
    try:
        objective = prepare()
        started = True
        with place or nullcontext():
            objective.train(declared(params, objective.space), run)
        run.check_end()
    # User code may raise anything, KeyboardInterrupt and the like included; it is reported, not tried again.
    except BaseException as exc:  # noqa: BLE001
        if not run.begun:
            leave()
        if isinstance(exc, SharedFailureError):
            # In the log of each of them.
            run.log(message_of(exc))
            return Finished(Outcome.PREEMPTED, message_of(exc), shared=True)
        if isinstance(exc, LaneEndedError):
            return Finished(Outcome.PREEMPTED)
        failure = _failed(exc, run)
        # Code after a loop that was ended early may find something missing, and the trial is decided.
        excused = run.ended_early or failure.outcome is Outcome.BUG
        if run.stop_outcome is not None and excused:
            # User code may have closed the stream.
            with suppress(Exception):
                run.log("this error does not count: the trial had to end before it")
            return Finished(run.stop_outcome)
        if failure.outcome is Outcome.REJECTED and run.history:
            # Its objective measured too late.
            return replace(failure, outcome=Outcome.INFEASIBLE)
        if started and run.resumes and failure.outcome is Outcome.BUG:
            # The model may have been edited since, which is not the trial's fault.
            return replace(failure, outcome=Outcome.MISFIT)
        return failure
    if run.ended_early and run.stop_outcome is not None:
        return Finished(run.stop_outcome)
    return Finished(Outcome.COMPLETE, results=run.results, value=run.value)


_MEANINGS = {
    DivergedError: Outcome.DIVERGED,
    # Before Infeasible, which it is too.
    ConstraintViolatedError: Outcome.REJECTED,
    Infeasible: Outcome.INFEASIBLE,
    TrialPruned: Outcome.PRUNED,
}
"""Outcomes that objectives choose by an exception."""


def _failed(error: BaseException, run: TrainerRun) -> Finished:
    """Return the outcome of an exception of user code; print its traceback, except where the outcome says enough."""
    for kind, outcome in _MEANINGS.items():
        if values.is_a(error, kind):
            return Finished(outcome, message_of(error))
    if type(error) in (DiskFullError, CheckpointsError):
        return Finished(Outcome.DISK_FULL, str(error))
    shown = traceback_of(error)
    flush_output()
    # The log's disk may be the one that is full.
    with suppress(OSError):
        os.write(run.errors_to, shown.encode())
    if _disk_is_full(error):
        return Finished(Outcome.DISK_FULL, f"no space left: {message_of(error)}")
    out_of_memory = _memory_is_full(error, run.start.device.gpu)
    return Finished(Outcome.OUT_OF_MEMORY if out_of_memory else Outcome.BUG, one_line(error), shown)


def is_want_of_memory(error: BaseException, gpu: str | None) -> bool:
    """Return whether a trial that ends by this error has run out of memory; `gpu` is the one that it trains on."""
    chosen = any(values.is_a(error, kind) for kind in (*_MEANINGS, DiskFullError, CheckpointsError))
    return not chosen and not _disk_is_full(error) and _memory_is_full(error, gpu)


def _disk_is_full(error: BaseException) -> bool:
    full = values.is_a(error, OSError) and _holds(lambda: error.errno in (errno.ENOSPC, errno.EDQUOT))  # type: ignore[attr-defined]
    return full or _holds(lambda: is_disk_full(error))


def _memory_is_full(error: BaseException, gpu: str | None) -> bool:
    if _holds(lambda: is_out_of_memory(error)):
        return True
    # While the error holds all that the trial has on the GPU.
    return gpu is not None and _holds(lambda: may_be_out_of_memory(error) and is_full(gpu))


def _holds(condition: Callable[[], bool]) -> bool:
    """Return a condition on an exception whose class may raise anything; then it does not hold."""
    try:
        return condition()
    except BaseException:  # noqa: BLE001
        return False
