"""The process that calls a data function: a fork of the template, which gets the arrays as files without names.

So the function may compute with any framework, start threads and processes, and take memory: all of it ends with its
process, and trainers are forked from a template that has done nothing but map files.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import hpo.errors
from hpo.devices.cores import usable_cores
from hpo.devices.gpus import visible_gpus
from hpo.devices.threads import release_threads
from hpo.errors import HpoError, ObjectiveBrokenError
from hpo.process.process_groups import end_with_agent, kill_group
from hpo.trainer.ending import forget_template
from hpo.trainer.exits import describe_exit, oom_kills
from hpo.trainer.failures import message_of, traceback_of
from hpo.trainer.output import flush_output
from hpo.trainer.template.fork_safety import ThreadCheck
from objectives import backend
from objectives.data.returned.module_state import ModuleState, UnshareableError
from objectives.data.returned.reading import Read, Watch, mapped, named, read
from objectives.data.returned.store import FileStore, Kept, MemoryStore, StoredArray
from objectives.values import type_name

END_SECONDS = 5.0
"""Longest time for threads and exit handlers of a data function."""

_POLL_SECONDS = 0.2
_PROGRESS_SECONDS = 0.5
_TRACEBACK = "_traceback_of_data_function"

DataFunction = Callable[[], Any]


@dataclass(frozen=True)
class _Progress:
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class _Done:
    """The function has returned; the descriptors of its files follow."""

    read: Read
    files: tuple[StoredArray, ...]
    changes: bytes
    """The variables that it has set in modules."""


@dataclass(frozen=True)
class _Unshareable:
    variables: str


@dataclass(frozen=True)
class _Failed:
    """The function has raised an exception."""

    error: BaseException | None
    """None: it cannot be pickled, or its class is not Python's or ours."""
    name: str
    message: str
    traceback: str


@dataclass(frozen=True)
class _File:
    """The place of an array in the list of files."""

    index: int


def traceback_in_function(error: BaseException) -> str | None:
    """Return the traceback of an exception of a data function in its own process; None if it had none."""
    return getattr(error, _TRACEBACK, None)


class DataProcess:
    """Calls data functions, each in a process of its own."""

    def __init__(self, folder: Path, seed: int, watch: Watch, check: ThreadCheck) -> None:
        """Keep large arrays in files without names in `folder`; `seed` is that of frameworks' random numbers."""
        self.notes: list[str] = []
        """Sentences on how data were read."""
        self._folder = folder
        self._seed = seed
        self._watch = watch
        self._check = check

    def __call__(self, function: DataFunction) -> Read:
        """Return what a data function returns, its large arrays mapped from files.

        Raises:
            UnshareableError: it has set variables that this process cannot have.
            BaseException: what the function has raised, if its class is Python's or ours, or another of that name.
            ObjectiveBrokenError: its process ended.
        """
        if self._check.cause() is not None:
            # A fork would wait for these threads for ever, and trainers load the data themselves in any case.
            return read(function, MemoryStore(), self._watch)
        state = ModuleState(function)
        match message := self._call(function, state):
            case _Done():
                _apply(state, message.changes)
                self.notes += message.read.notes
                return message.read
            case _Unshareable(variables):
                raise UnshareableError(variables)
            case _Failed(error, name, text, traceback):
                error = type(name, (Exception,), {})(text) if error is None else error
                if traceback:
                    setattr(error, _TRACEBACK, traceback)
                raise error

    def _call(self, function: DataFunction, state: ModuleState) -> _Done | _Unshareable | _Failed:
        """Let a process call the function, and return its last message with its arrays mapped."""
        ours, theirs = Pipe()
        guard, kept = os.pipe()
        flush_output()
        kills = oom_kills()
        try:
            pid = _fork()
        except OSError as exc:
            raise ObjectiveBrokenError(
                f"no process can be started for the {named(function)} ({exc.strerror or exc}): end other processes"
            ) from exc
        if not pid:
            ours.close()
            os.close(kept)
            self._run(function, state, theirs, guard)
        theirs.close()
        os.close(guard)
        try:
            with ours:
                message = self._receive(ours, pid)
                # Its exit handlers may delete files, which have been mapped by now.
                ours.send(None)
            _exited(pid, END_SECONDS)
            return message
        except (EOFError, OSError):
            raise ObjectiveBrokenError(_end(function, _status(pid), oom_kills() > kills)) from None
        finally:
            # Its processes end with it, whether it has ended or not.
            kill_group(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            os.close(kept)

    def _receive(self, connection: Connection, pid: int) -> _Done | _Unshareable | _Failed:
        """Return the last message of the process; raise EOFError or OSError if it ended before."""
        while True:
            while not connection.poll(_POLL_SECONDS):
                # Processes that it has started may keep the pipe open.
                if _exited(pid, 0.0) and not connection.poll(0):
                    raise EOFError
            message: _Progress | _Done | _Unshareable | _Failed = connection.recv()
            if not isinstance(message, _Progress):
                return _with_arrays(message, connection) if isinstance(message, _Done) else message
            self._watch(message.stage, message.done, message.total)

    # In the process of the function.

    def _run(
        self, function: DataFunction, state: ModuleState, connection: Connection, guard: int
    ) -> NoReturn:
        """Call the function, send what it returns, and end this process."""
        own = os.getpid()
        try:
            self._prepare(guard)
            found = read(function, FileStore(self._folder), self._reporter(connection))
            _send(connection, found, state, own)
        # User code may raise anything; it is reported.
        except BaseException as exc:  # noqa: BLE001
            _only(own)
            with suppress(OSError):
                connection.send(_failed(exc))
        flush_output()
        with suppress(EOFError, OSError):
            connection.recv()
        _end_orderly()

    def _prepare(self, guard: int) -> None:
        # What it shares with the template is no garbage, and its pages are not copied.
        gc.freeze()
        forget_template()
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # Its group ends with the template.
        end_with_agent(guard)
        release_threads(usable_cores().count)
        if visible_gpus():
            # The whole memory of a GPU would be taken, although others train on it.
            for one in backend.BACKENDS.values():
                one.share_gpu(None)
        self._seed_frameworks()

    def _seed_frameworks(self) -> None:
        """Seed the frameworks that are imported; Python's and NumPy's generators are seeded already."""
        if "keras" in sys.modules:
            states = random.getstate(), np.random.get_state()
            sys.modules["keras"].utils.set_random_seed(self._seed % 2**32)
            random.setstate(states[0])
            np.random.set_state(states[1])

    def _reporter(self, connection: Connection) -> Watch:
        reported_at = 0.0

        def report(stage: str, done: int, total: int) -> None:
            nonlocal reported_at
            if time.monotonic() - reported_at >= _PROGRESS_SECONDS:
                reported_at = time.monotonic()
                connection.send(_Progress(stage, done, total))

        return report


def _fork() -> int:
    with warnings.catch_warnings():
        # The other thread of the template only waits for the agent's end.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _send(connection: Connection, found: Read, state: ModuleState, own: int) -> None:
    _only(own)
    try:
        changes = state.changes()
    except UnshareableError as exc:
        connection.send(_Unshareable(str(exc)))
        return
    files: list[StoredArray] = []

    def placed(one: Kept) -> Any:
        if not isinstance(one, StoredArray):
            return one
        files.append(one)
        return _File(len(files) - 1)

    connection.send(_Done(mapped(found, placed), tuple(files), changes))
    for file in files:
        reduction.send_handle(connection, file.descriptor, os.getppid())


def _only(own: int) -> None:
    """End a process that the function has forked, and that came back from it: only its parent reports."""
    if os.getpid() != own:
        flush_output()
        os._exit(1)


def _failed(error: BaseException) -> _Failed:
    name, message = type_name(error), message_of(error)
    if isinstance(error, HpoError):
        return (
            _Failed(error, name, message, "") if _is_portable(error) else _Failed(None, name, str(error), "")
        )
    return _Failed(error if _is_portable(error) else None, name, message, traceback_of(error))


def _is_portable(error: BaseException) -> bool:
    if type(error).__module__ not in ("builtins", hpo.errors.__name__):
        return False
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    # Arguments of an exception may be anything.
    except Exception:  # noqa: BLE001
        return False


def _end_orderly() -> NoReturn:
    """Join threads that are no daemons, run exit handlers, and end this process."""

    def expire() -> None:
        time.sleep(END_SECONDS)
        os._exit(0)

    with suppress(RuntimeError):
        threading.Thread(target=expire, name="end", daemon=True).start()
    shut_down: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    for step in (shut_down, atexit._run_exitfuncs, flush_output):
        with suppress(BaseException):
            step()
    os._exit(0)


# In the template.


def _with_arrays(message: _Done, connection: Connection) -> _Done:
    arrays = [_received(connection, file) for file in message.files]
    found = mapped(message.read, lambda one: arrays[one.index] if isinstance(one, _File) else one)
    return replace(message, read=found)


def _received(connection: Connection, file: StoredArray) -> Any:
    descriptor = reduction.recv_handle(connection)
    try:
        return StoredArray(
            descriptor=descriptor, offset=file.offset, dtype=file.dtype, shape=file.shape
        ).mapped()
    finally:
        os.close(descriptor)


def _apply(state: ModuleState, changes: bytes) -> None:
    try:
        state.apply(changes)
    # Classes of user code may refuse to be unpickled in any way.
    except Exception as exc:
        raise UnshareableError(f"variables ({type_name(exc)}: {message_of(exc)})") from exc


def _exited(pid: int, seconds: float) -> bool:
    """Wait for the end of a process, and leave its status; return False if it has not ended in time."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(0.002)
    return True


def _status(pid: int) -> int | None:
    """Return the exit code of a process whose pipe is closed, or minus its signal; None if it still runs."""
    if not _exited(pid, END_SECONDS):
        return None
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _end(function: DataFunction, status: int | None, killed: bool) -> str:
    out_of_memory = status == -signal.SIGKILL and killed
    remedy = (
        "return smaller arrays, or arrays that np.load(…, mmap_mode='r') has mapped from files"
        if out_of_memory
        else "see its log, and remove what ends the process, such as os._exit"
    )
    return f"{named(function)} returned nothing, because {describe_exit(status, out_of_memory)}: {remedy}"
