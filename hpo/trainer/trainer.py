"""The process that trains one attempt: forked from the template and connected only to its agent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedWriter, TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from optuna.exceptions import TrialPruned

from hpo.devices.threads import release_threads
from hpo.errors import DiskFullError
from hpo.files.bounded_log import BoundedLog, BoundedOutput
from hpo.outcomes import Outcome
from hpo.process.process_groups import kill_group
from hpo.trainer.checkpoints import CheckpointFolder, CheckpointsError, SavedOutcome
from hpo.trainer.ending import end_orderly
from hpo.trainer.failures import message_of, one_line, traceback_of
from hpo.trainer.loading import ObjectiveLoader
from hpo.trainer.messages import (
    Command,
    Continue,
    Epoch,
    EpochRecord,
    Finished,
    Held,
    Start,
    Started,
    Tick,
)
from hpo.trainer.pipe import TrainerPipe
from objectives import values
from objectives.backend import is_out_of_memory
from objectives.base import DivergedError, Infeasible, Objective, State
from objectives.checked_run import CheckedRun
from objectives.choices import declared

TICK_SECONDS = 1.0
"""Shortest time between two reports of progress inside an epoch."""

LOADING_SECONDS = 300.0
"""Longest time in which a trainer that loads the objective itself counts as alive without progress."""

LOG_CHECK_SECONDS = 0.05
"""Seconds between two checks of the log's size."""

ORPHANED = 3
"""Exit code of a trainer whose agent is gone."""


class TrainerRun(CheckedRun):
    """A `Run` whose reports go to the agent and whose checkpoints go to disk."""

    def __init__(self, pipe: TrainerPipe, start: Start) -> None:
        self.seed = start.seed
        self.total_epochs = start.epochs
        self.device = start.device
        self.metric = start.metric
        self.final = start.final
        self.output = Path(start.output) if start.output else None
        self.results: dict[str, Any] = {}
        self.stop_outcome: Outcome | None = None
        self._start = start
        self._pipe = pipe
        # Threads of an objective may report at once.
        self._reporting = threading.RLock()
        self._folder = CheckpointFolder(Path(start.checkpoints))
        self._folder.clear_partial()
        saved = self._folder.saved_outcome()
        self.earlier_outcome = saved if saved is not None and self._is_final(saved.outcome) else None
        """Outcome of an earlier attempt that its agent has not stored."""
        checkpoint = self._folder.newest(self.log) if self.earlier_outcome is None else None
        self._state: State | None = checkpoint.state if checkpoint else None
        known = checkpoint or self.earlier_outcome
        self._history: list[EpochRecord] = list(known.history) if known else []
        self._completed = self._resumed_from = len(self._history)
        self._epoch_began_at = self._ticked_at = time.monotonic()
        self._received = threading.Condition()
        self._answered = len(self._history)
        self._paused = False

    @property
    def state(self) -> State | None:
        return self._state

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """Epochs trained so far, those of earlier attempts included."""
        return tuple(self._history)

    @property
    def resumes(self) -> bool:
        """Whether the run continues a checkpoint and has not completed an epoch since."""
        return self._state is not None and self._completed == self._resumed_from

    def _begin(self, epoch: int) -> bool:  # noqa: ARG002 - the agent counts them
        self._wait_while_paused()
        self._epoch_began_at = time.monotonic()
        return self.stop_outcome is None

    def report(self, **metrics: float) -> None:
        self._pipe.check_owned()
        with self._reporting:
            super().report(**metrics)

    def save(self, state: State) -> None:
        self._pipe.check_owned()
        with self._reporting:
            super().save(state)

    def _close(self, metrics: dict[str, float], state: State | None) -> None:
        record = EpochRecord(self._epoch, metrics, time.monotonic() - self._epoch_began_at)
        self._history.append(record)
        if state is not None:
            self._keep(state)
        self._pipe.send(Epoch(record))

    def _keep(self, state: State) -> None:
        self._folder.write(self._history, state)

    def tick(self, done: int, total: int, images: int = 0) -> None:
        self._wait_while_paused()
        now = time.monotonic()
        # An agent that has not answered the last epoch is busy: the pipe is left to epochs.
        if now - self._ticked_at >= TICK_SECONDS and self._answered >= self._epoch - 1:
            self._ticked_at = now
            fraction = values.number("done of run.tick()", done) / max(
                values.number("total of run.tick()", total), 1.0
            )
            rate = values.number("images of run.tick()", images) / max(now - self._epoch_began_at, 1e-9)
            self._pipe.send(Tick(self._epoch, min(max(fraction, 0.0), 1.0), rate))

    def send_alive(self) -> None:
        """Report that this process is alive after its last epoch."""
        self._pipe.send(Tick(max(len(self._history), 1), 1.0, 0.0))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Report that this process is alive while it loads the objective in this block."""
        done = threading.Event()
        until = time.monotonic() + LOADING_SECONDS

        def report() -> None:
            with suppress(OSError):
                while not done.wait(TICK_SECONDS) and time.monotonic() < until:
                    self._pipe.send(Tick(len(self._history) + 1, 0.0, 0.0))

        threading.Thread(target=report, name="loading", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def record(self, **results: Any) -> None:
        together = {**self.results, **values.records(results)}
        values.check_size(together)
        self.results = together

    def save_outcome(self, finished: Finished) -> None:
        """Save the outcome for a later attempt, in case the agent dies before the database has it."""
        if self._is_final(finished.outcome):
            # The agent receives it all the same.
            with suppress(CheckpointsError, DiskFullError):
                self._folder.save_outcome(
                    SavedOutcome(
                        finished.outcome, finished.error, finished.traceback, self.history, finished.results
                    )
                )

    def _is_final(self, outcome: Outcome) -> bool:
        # A failed trial is retried.
        return outcome is Outcome.COMPLETE or (outcome.counts and self._start.saves_outcome)

    def log(self, message: str) -> None:
        print(message, flush=True)

    def listen(self) -> None:
        """Receive the agent's messages until it is gone; then end this process at once."""
        while True:
            try:
                message = self._pipe.receive()
            except (EOFError, OSError):
                # With its child processes.
                kill_group(os.getpid())
                os._exit(ORPHANED)
            with self._received:
                match message:
                    case Continue(epoch):
                        self._answered = epoch
                    case Command.PRUNE:
                        self.stop_outcome = Outcome.PRUNED
                    case Command.PREEMPT:
                        self.stop_outcome = self.stop_outcome or Outcome.PREEMPTED
                    case Command.PAUSE | Command.RESUME:
                        self._paused = message is Command.PAUSE
                self._received.notify_all()

    def _decide(self) -> None:
        """Wait for the answer to an epoch, but not forever: the agent's database may be unreachable."""
        if self._completed >= self.total_epochs:
            return
        with self._received:
            self._received.wait_for(
                lambda: self._answered >= self._epoch or self.stop_outcome, timeout=self._start.reply_seconds
            )

    def _wait_while_paused(self) -> None:
        with self._received:
            if not self._paused or self.stop_outcome:
                return
            began_at = time.monotonic()
            self._pipe.send(Held())
            self._received.wait_for(lambda: not self._paused or self.stop_outcome)
            # Time without training is not the epoch's.
            self._epoch_began_at += time.monotonic() - began_at


def train(connection: Connection, loaded: ObjectiveLoader) -> None:
    """Train the attempt that the agent sends, report its outcome, and end the process."""
    start: Start = connection.recv()
    pipe = TrainerPipe(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _redirect_output(start.log)
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = f"no space left for the log {start.log}" if full else f"the log cannot be written: {exc}"
        pipe.send(Finished(Outcome.DISK_FULL, f"{reason}: free some space and run the same command again"))
        os._exit(0)
    if start.device.cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, start.device.cores)
    # Pinned like this process, and not part of the memory that the trial may allocate.
    release_threads(start.device.threads)
    if loaded.prepared and start.memory_bytes:
        _limit_memory(start.memory_bytes)
    try:
        finished = _train(pipe, loaded, start)
    except CheckpointsError as exc:
        finished = Finished(Outcome.DISK_FULL, str(exc))
    except MemoryError as exc:
        finished = Finished(Outcome.OUT_OF_MEMORY, f"there is no memory for the checkpoint: {exc}")
    _report(pipe, finished)


def _train(pipe: TrainerPipe, loaded: ObjectiveLoader, start: Start) -> Finished:
    """Train from the last checkpoint, if there is one, until the trial or the attempt ends.

    Raises:
        CheckpointsError, MemoryError: it cannot be read.
    """
    run = TrainerRun(pipe, start)
    pipe.send(Started(os.getpid(), len(run.history), run.history))
    threading.Thread(target=run.listen, name="listener", daemon=True).start()
    if (saved := run.earlier_outcome) is not None:
        return Finished(saved.outcome, saved.error, saved.traceback, saved.results)
    finished = _outcome(loaded, start, run)
    if not pipe.owned:
        # A process that the objective has forked came back from `train`: only its parent reports.
        _flush_output()
        os._exit(1)
    run.save_outcome(finished)

    def expired() -> None:
        with suppress(Exception):
            run.log("the process of this trial ends although its threads or exit handlers have not")
        _report(pipe, finished)

    end_orderly(loaded.drop, run.send_alive, expired)
    return finished


def _report(pipe: TrainerPipe, finished: Finished) -> None:
    """Report the outcome and end the process."""
    _flush_output()
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
        failure = _failed(exc)
        # Code after a loop that was ended early may find something missing, and the trial is decided.
        excused = run.ended_early or failure.outcome is Outcome.BUG
        if run.stop_outcome is not None and excused:
            # User code may have closed the stream.
            with suppress(Exception):
                run.log("this error does not count: the trial had to end before it")
            return Finished(run.stop_outcome)
        if started and run.resumes and failure.outcome is Outcome.BUG:
            # The model may have been edited since, which is not the trial's fault.
            return replace(failure, outcome=Outcome.MISFIT)
        return failure
    if run.ended_early and run.stop_outcome is not None:
        return Finished(run.stop_outcome)
    return Finished(Outcome.COMPLETE, results=run.results)


def _prepare(loaded: ObjectiveLoader, start: Start, run: TrainerRun) -> Objective:
    with run.loading():
        objective = loaded.prepare_in_trainer(start.device)
    if start.memory_bytes:
        # The data do not count, as in a trainer that shares them with its template.
        _limit_memory(start.memory_bytes)
    return objective


def _failed(error: BaseException) -> Finished:
    """Return the outcome of an exception of user code; print its traceback, except where the outcome says enough."""
    if isinstance(error, DivergedError):
        return Finished(Outcome.DIVERGED, message_of(error))
    if isinstance(error, Infeasible):
        return Finished(Outcome.INFEASIBLE, message_of(error))
    if isinstance(error, TrialPruned):
        return Finished(Outcome.PRUNED, message_of(error))
    if isinstance(error, DiskFullError | CheckpointsError):
        return Finished(Outcome.DISK_FULL, str(error))
    shown = traceback_of(error)
    _flush_output()
    # Not through `sys.stderr`, which user code may have closed; the log's disk may be the one that is full.
    with suppress(OSError):
        os.write(2, shown.encode())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Finished(Outcome.DISK_FULL, f"no space left: {message_of(error)}")
    return Finished(Outcome.OUT_OF_MEMORY if _lacks_memory(error) else Outcome.BUG, one_line(error), shown)


def _lacks_memory(error: BaseException) -> bool:
    try:
        return is_out_of_memory(error)
    except Exception:  # noqa: BLE001 - the text of the exception cannot be shown
        return False


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # User code may have closed or replaced them.
        with suppress(Exception):
            stream.flush()


def _redirect_output(log: str) -> None:
    """Send the attempt's output, that of native libraries included, to its log."""
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    bounded = BoundedLog(path)
    sys.stdout, sys.stderr = _bounded(sys.stdout, 1, bounded), _bounded(sys.stderr, 2, bounded)
    # Output of native libraries, of child processes, and of streams that the objective has kept.
    threading.Thread(target=_keep_bounded, args=(bounded,), name="log", daemon=True).start()


def _bounded(stream: TextIO, descriptor: int, log: BoundedLog) -> TextIO:
    """Return a stream in place of `stream` that truncates the log."""
    if not isinstance(stream, TextIOWrapper):
        return stream
    return TextIOWrapper(
        BufferedWriter(BoundedOutput(descriptor, log)),
        stream.encoding,
        # Text that is no UTF-8, such as a file's name, is printed with escapes and ends no trial.
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _keep_bounded(log: BoundedLog) -> None:
    while True:
        log.truncate()
        time.sleep(LOG_CHECK_SECONDS)


def _limit_memory(extra: int) -> None:
    """Allow `extra` more bytes of private memory than are mapped now; beyond them, raise MemoryError."""
    if not sys.platform.startswith("linux"):
        return
    mapped_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = mapped_pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
