"""The process that calls a data function: a fork of the template, which gets the arrays as files without names.

So the function may compute with any framework, start threads and processes, and take memory: all of it ends with its
process, and trainers are forked from a template that has done nothing but map files.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hpo.devices.threads import find_libraries
from hpo.errors import ObjectiveBrokenError
from hpo.process.process_groups import children, kill_children, kill_group
from hpo.trainer.ends.exits import describe_exit, oom_kills
from hpo.trainer.ends.failures import message_of
from hpo.trainer.output import flush_output
from hpo.trainer.template import data_function
from hpo.trainer.template.data_function import (
    END_SECONDS,
    DataFunction,
    Done,
    Failed,
    File,
    Progress,
    Unshareable,
)
from hpo.trainer.template.fork_safety import ThreadCheck
from objectives.data.returned.module_state import ModuleState, UnshareableError
from objectives.data.returned.reading import Read, Watch, mapped, named, read
from objectives.data.returned.store import MemoryStore, StoredArray
from objectives.values import type_name

_POLL_SECONDS = 0.2
_TRACEBACK = "_traceback_of_data_function"


def traceback_in_function(error: BaseException) -> str | None:
    """Return the traceback of an exception of a data function in its own process; None if it had none."""
    return getattr(error, _TRACEBACK, None)


class DataProcess:
    """Calls data functions, each in a process of its own."""

    def __init__(self, folder: Path, seed: int, watch: Watch, check: ThreadCheck) -> None:
        """Keep large arrays in files without names in `folder`; random numbers of functions begin with `seed`."""
        self.notes: list[str] = []
        """Sentences on how data were read."""
        self._folder = folder
        self._seed = seed
        self._watch = watch
        self._check = check

    def __call__(self, function: DataFunction) -> Read:
        """Return the data set of a data function, its large arrays mapped from files.

        Raises:
            UnshareableError: it has set variables that this process cannot have.
            BaseException: the exception of the function, if its class is Python's or ours, else another of that name.
            ObjectiveBrokenError: its process ended.
        """
        if self._check.cause() is not None:
            # A fork would wait for these threads for ever, and trainers load the data themselves in any case.
            return read(function, MemoryStore(), self._watch)
        state = ModuleState(function)
        match message := self._call(function, state):
            case Done():
                _apply(state, message.changes)
                self.notes += message.read.notes
                return message.read
            case Unshareable(variables):
                raise UnshareableError(variables)
            case Failed(error, name, text, traceback):
                error = type(name, (Exception,), {})(text) if error is None else error
                if traceback:
                    setattr(error, _TRACEBACK, traceback)
                raise error

    def _call(self, function: DataFunction, state: ModuleState) -> Done | Unshareable | Failed:
        """Let a process call the function, and return its last message with its arrays mapped."""
        ours, theirs = Pipe()
        guard, kept = os.pipe()
        flush_output()
        find_libraries()
        kills, others = oom_kills(), children()
        try:
            pid = _fork()
        except OSError as exc:
            ours.close()
            theirs.close()
            os.close(guard)
            os.close(kept)
            raise ObjectiveBrokenError(
                f"no process can be started for the {named(function)} ({exc.strerror or exc}): end other processes"
            ) from exc
        if not pid:
            ours.close()
            os.close(kept)
            data_function.run(function, state, theirs, guard=guard, folder=self._folder, seed=self._seed)
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
            # Its processes end with it, whether it has ended or not, also those in sessions of their own.
            kill_group(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            kill_children(others)
            os.close(kept)

    def _receive(self, connection: Connection, pid: int) -> Done | Unshareable | Failed:
        """Return the last message of the process; raise EOFError or OSError if it ended before."""
        while True:
            while not connection.poll(_POLL_SECONDS):
                # Processes that it has started may keep the pipe open.
                if _exited(pid, 0.0) and not connection.poll(0):
                    raise EOFError
            message: Progress | Done | Unshareable | Failed = connection.recv()
            if not isinstance(message, Progress):
                return _with_arrays(message, connection) if isinstance(message, Done) else message
            self._watch(message.stage, message.done, message.total)


def _fork() -> int:
    with warnings.catch_warnings():
        # The other thread of the template only waits for the agent's end.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _with_arrays(message: Done, connection: Connection) -> Done:
    arrays = [_received(connection, file) for file in message.files]
    found = mapped(message.read, lambda one: arrays[one.index] if isinstance(one, File) else one)
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
