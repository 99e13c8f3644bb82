"""The process that trains one attempt: forked from the template and connected only to its agent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from optuna.exceptions import TrialPruned

from hpo.devices.gpus import is_full
from hpo.devices.threads import release_threads
from hpo.errors import DiskFullError, ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.trainer.checkpointing.checkpoints import CheckpointsError
from hpo.trainer.ends.ending import END_SECONDS, end_orderly
from hpo.trainer.ends.failures import message_of, one_line, traceback_of
from hpo.trainer.imports import ImportWatch
from hpo.trainer.messages import Finished, Start, Started
from hpo.trainer.output import AttemptOutput, flush_output
from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.reuse import Reuse
from hpo.trainer.run import TrainerRun
from hpo.trainer.template.data_digest import data_digest
from hpo.trainer.template.loading import ObjectiveLoader
from hpo.trainer.template.messages import Preload
from objectives import values
from objectives.backend import is_disk_full, is_out_of_memory, may_be_out_of_memory
from objectives.base import Objective
from objectives.errors import DivergedError, Infeasible
from objectives.keras_objective import KerasObjective
from objectives.runs.figures import ConstraintViolatedError
from objectives.spaces.choices import declared


def train(connection: Connection, loaded: ObjectiveLoader) -> None:
    """Train the attempt that the agent sends, then others as long as it may, and end the process."""
    start: Start = connection.recv()
    pipe = TrainerPipe(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    output = AttemptOutput()
    _redirect(output, pipe, start)
    if start.device.cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, start.device.cores)
    # Pinned like this process, and not part of the memory that the trial may allocate.
    release_threads(start.device.threads)
    if loaded.prepared and start.memory_bytes:
        _limit_memory(start.memory_bytes)
    if start.checks:
        _report(pipe, _checked(loaded, start))
    reuse = Reuse(loaded, start, output)
    while True:
        start = _attempt(pipe, loaded, start, reuse)
        pipe = TrainerPipe(connection)
        _redirect(output, pipe, start)


def _redirect(output: AttemptOutput, pipe: TrainerPipe, start: Start) -> None:
    """Send output to the attempt's log; report that this is impossible, and end the process."""
    try:
        output.redirect(start.log)
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = f"no space left for the log {start.log}" if full else f"the log cannot be written: {exc}"
        pipe.send(Finished(Outcome.DISK_FULL, f"{reason}: free some space and run the same command again"))
        os._exit(0)


def _attempt(pipe: TrainerPipe, loaded: ObjectiveLoader, start: Start, reuse: Reuse) -> Start:
    """Train an attempt and report its outcome; return the next one, or end the process."""
    try:
        run = TrainerRun(pipe, start)
        finished = _train(pipe, loaded, run, reuse)
    except CheckpointsError as exc:
        finished = Finished(Outcome.DISK_FULL, str(exc))
    except MemoryError as exc:
        finished = Finished(Outcome.OUT_OF_MEMORY, f"there is no memory for the checkpoint: {exc}")
    if not finished.stays:
        _report(pipe, finished)
    flush_output()
    try:
        pipe.send(finished)
    except OSError:
        os._exit(0)
    return run.next_start()


def _checked(loaded: ObjectiveLoader, start: Start) -> Finished:
    """Return a failure if no model of the objective can train, and completion if that is not certain."""
    # In a process that is not a trial, so imports are not noted, and data of unforkable templates not loaded.
    if not loaded.prepared:
        return Finished(Outcome.COMPLETE)
    try:
        objective = loaded.prepare()
        if isinstance(objective, KerasObjective):
            objective.check(declared(start.params, objective.space), start.device, start.metric)
    except ObjectiveBrokenError as exc:
        return Finished(Outcome.BUG, message_of(exc))
    # Code of the user may raise anything, which may be the fault of this configuration alone.
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    return Finished(Outcome.COMPLETE)


def _train(pipe: TrainerPipe, loaded: ObjectiveLoader, run: TrainerRun, reuse: Reuse) -> Finished:
    """Train from the last checkpoint, if there is one, until the trial or the attempt ends."""
    pipe.postpone(Started(os.getpid(), len(run.history), run.history))
    if not reuse.experienced:
        pipe.begin()
    threading.Thread(target=run.listen, name="listener", daemon=True).start()
    if (saved := run.earlier_outcome) is not None:
        return Finished(saved.outcome, saved.error, saved.traceback, saved.results, saved.value)
    watch = ImportWatch()
    finished = _outcome(loaded, run.start, run)
    if not pipe.owned:
        # A process that the objective has forked came back from `train`: only its parent reports.
        flush_output()
        os._exit(1)
    run.save_outcome(finished)
    _notify_imported(loaded, run, watch)
    if reuse.permits(finished.outcome):
        return replace(finished, stays=True)
    _end(pipe, loaded, run, finished)
    return finished


def _end(pipe: TrainerPipe, loaded: ObjectiveLoader, run: TrainerRun, finished: Finished) -> None:
    """Run what an interpreter runs at its end."""

    def expired() -> None:
        with suppress(Exception):
            run.log("the process of this trial ends although its threads or exit handlers have not")
        _report(pipe, finished)

    # An agent that has asked it to end kills it earlier, and names it.
    seconds = END_SECONDS if run.stop_outcome is None else 2 * END_SECONDS
    end_orderly(loaded.drop, run.send_alive, expired, seconds)


def _notify_imported(loaded: ObjectiveLoader, run: TrainerRun, watch: ImportWatch) -> None:
    # A template without the objective's own module would import these in front of it.
    if loaded.load.preload is not Preload.NOTHING:
        # The objective's files may be gone, and its modules may be any objects.
        with suppress(Exception):
            imported = watch.found(loaded.load.objective)
            if imported.modules:
                run.notify_imported(imported)


def _report(pipe: TrainerPipe, finished: Finished) -> None:
    """Report the outcome and end the process."""
    flush_output()
    with suppress(OSError):
        pipe.send(finished)
    # Threads of a numeric library may hang the interpreter's own end.
    os._exit(0)


def _outcome(loaded: ObjectiveLoader, start: Start, run: TrainerRun) -> Finished:
    started = False
    try:
        objective = loaded.prepare() if loaded.prepared else _prepare(loaded, start, run)
        started = True
        objective.train(declared(start.params, objective.space), run)
        run.check_end()
    # User code may raise anything, KeyboardInterrupt and the like included; it is reported, not tried again.
    except BaseException as exc:  # noqa: BLE001
        if not run.begun:
            # Another process trains it, which has trained no other.
            flush_output()
            os._exit(0)
        failure = _failed(exc, start.device.gpu)
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


def _prepare(loaded: ObjectiveLoader, start: Start, run: TrainerRun) -> Objective:
    with run.loading():
        objective = loaded.prepare_in_trainer(start.device)
        run.notify_loaded(data_digest(objective))
    if start.memory_bytes:
        # The data do not count, as in a trainer that shares them with its template.
        _limit_memory(start.memory_bytes)
    return objective


_MEANINGS = {
    DivergedError: Outcome.DIVERGED,
    # Before Infeasible, which it is too.
    ConstraintViolatedError: Outcome.REJECTED,
    Infeasible: Outcome.INFEASIBLE,
    TrialPruned: Outcome.PRUNED,
}
"""Outcomes that objectives choose by an exception."""


def _failed(error: BaseException, gpu: str | None = None) -> Finished:
    """Return the outcome of an exception of user code; print its traceback, except where the outcome says enough.

    `gpu` is the address of the GPU that the trial had.
    """
    for kind, outcome in _MEANINGS.items():
        if values.is_a(error, kind):
            return Finished(outcome, message_of(error))
    if type(error) in (DiskFullError, CheckpointsError):
        return Finished(Outcome.DISK_FULL, str(error))
    shown = traceback_of(error)
    flush_output()
    # Not through `sys.stderr`, which user code may have closed; the log's disk may be the one that is full.
    with suppress(OSError):
        os.write(2, shown.encode())
    full = values.is_a(error, OSError) and _holds(lambda: error.errno in (errno.ENOSPC, errno.EDQUOT))  # type: ignore[attr-defined]
    if full or _holds(lambda: is_disk_full(error)):
        return Finished(Outcome.DISK_FULL, f"no space left: {message_of(error)}")
    out_of_memory = _holds(lambda: is_out_of_memory(error))
    if not out_of_memory and gpu is not None:
        # While the error holds all that the trial has on the GPU.
        out_of_memory = _holds(lambda: may_be_out_of_memory(error) and is_full(gpu))
    return Finished(Outcome.OUT_OF_MEMORY if out_of_memory else Outcome.BUG, one_line(error), shown)


def _holds(condition: Callable[[], bool]) -> bool:
    """Return a condition on an exception whose class may raise anything; then it does not hold."""
    try:
        return condition()
    except BaseException:  # noqa: BLE001
        return False


def _limit_memory(extra: int) -> None:
    """Allow `extra` more bytes of private memory than are mapped now; beyond them, raise MemoryError."""
    if not sys.platform.startswith("linux"):
        return
    mapped_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = mapped_pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
