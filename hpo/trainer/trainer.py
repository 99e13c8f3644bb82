"""The process that trains one attempt: forked from the template and connected only to its agent."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from hpo.devices.threads import release_threads
from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.process.process_groups import end_group
from hpo.trainer.checkpointing.checkpoints import CheckpointsError
from hpo.trainer.ends.ending import END_SECONDS, end_orderly
from hpo.trainer.ends.failures import message_of
from hpo.trainer.ends.outcome import outcome_of
from hpo.trainer.imports import ImportWatch
from hpo.trainer.messages import Finished, Start, Started
from hpo.trainer.output import AttemptOutput, flush_output, no_log
from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.reuse import Reuse
from hpo.trainer.run import TrainerRun
from hpo.trainer.template.data_digest import data_digest
from hpo.trainer.template.loading import ObjectiveLoader
from hpo.trainer.template.messages import Preload
from objectives.base import Objective
from objectives.keras_objective import KerasObjective
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
    if start.most_lanes:
        # Imports the library of its backend, which no other trainer needs yet.
        from hpo.trainer.lanes.measurement import measured

        _report(pipe, measured(pipe, loaded, start))
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
        pipe.send(no_log(start.log, exc))
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
        end_group()
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
    try:
        pipe.send(finished)
    except OSError:
        end_group()
    # Threads of a numeric library may hang the interpreter's own end.
    os._exit(0)


def _outcome(loaded: ObjectiveLoader, start: Start, run: TrainerRun) -> Finished:
    def prepare() -> Objective:
        return loaded.prepare() if loaded.prepared else _prepare(loaded, start, run)

    return outcome_of(prepare, start.params, run, _leave_to_another)


def _leave_to_another() -> NoReturn:
    """End the process before its attempt has begun: another one trains it, which has trained no other."""
    flush_output()
    os._exit(0)


def _prepare(loaded: ObjectiveLoader, start: Start, run: TrainerRun) -> Objective:
    with run.loading():
        objective = loaded.prepare_in_trainer(start.device)
        run.notify_loaded(data_digest(objective))
    if start.memory_bytes:
        # The data do not count, as in a trainer that shares them with its template.
        _limit_memory(start.memory_bytes)
    return objective


def _limit_memory(extra: int) -> None:
    """Allow `extra` more bytes of private memory than are mapped now; beyond them, raise MemoryError."""
    if not sys.platform.startswith("linux"):
        return
    mapped_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = mapped_pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
