"""The call of a data function in its own process, and the messages in which its template gets the data set."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import hpo.errors
from hpo.devices.cores import usable_cores
from hpo.devices.gpus import visible_gpus
from hpo.devices.threads import release_threads
from hpo.errors import HpoError
from hpo.process.process_groups import end_group, end_with_agent
from hpo.trainer.ends.ending import forget_template
from hpo.trainer.ends.failures import message_of, traceback_of
from hpo.trainer.output import flush_output
from objectives import backend
from objectives.data.returned.module_state import ModuleState, UnshareableError
from objectives.data.returned.reading import Read, Watch, mapped, read
from objectives.data.returned.seeding import seeded
from objectives.data.returned.store import FileStore, Kept, StoredArray
from objectives.values import type_name

END_SECONDS = 5.0
"""Longest time for threads and exit handlers of a data function."""

_PROGRESS_SECONDS = 0.5

DataFunction = Callable[[], Any]


@dataclass(frozen=True)
class Progress:
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """The function has returned; the descriptors of its files follow."""

    read: Read
    files: tuple[StoredArray, ...]
    changes: bytes
    """The variables that it has set in modules."""


@dataclass(frozen=True)
class Unshareable:
    variables: str


@dataclass(frozen=True)
class Failed:
    """The function has raised an exception."""

    error: BaseException | None
    """None: it cannot be pickled, or its class is not Python's or ours."""
    name: str
    message: str
    traceback: str


@dataclass(frozen=True)
class File:
    """The place of an array in the list of files."""

    index: int


def run(
    function: DataFunction, state: ModuleState, connection: Connection, *, guard: int, folder: Path, seed: int
) -> NoReturn:
    """Call a data function in this process, send the data set that it returns, and end the process with its group.

    Large arrays are kept in `folder`; random numbers begin with `seed`; `guard` closes with the template.
    """
    own = os.getpid()
    try:
        _prepare(guard)
        with seeded(seed):
            found = read(function, FileStore(folder), _reporter(connection))
        _send(connection, found, state, own)
    # User code may raise anything; it is reported.
    except BaseException as exc:  # noqa: BLE001
        _only(own)
        with suppress(OSError):
            connection.send(_failed(exc))
    flush_output()
    try:
        connection.recv()
    except (EOFError, OSError):
        # The template is gone.
        end_group()
    _end_orderly()


def _prepare(guard: int) -> None:
    # Objects that it shares with the template are not garbage, and their pages are not copied.
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


def _reporter(connection: Connection) -> Watch:
    reported_at = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= _PROGRESS_SECONDS:
            reported_at = time.monotonic()
            connection.send(Progress(stage, done, total))

    return report


def _send(connection: Connection, found: Read, state: ModuleState, own: int) -> None:
    _only(own)
    try:
        changes = state.changes()
    except UnshareableError as exc:
        connection.send(Unshareable(str(exc)))
        return
    files: list[StoredArray] = []

    def placed(one: Kept) -> Any:
        if not isinstance(one, StoredArray):
            return one
        files.append(one)
        return File(len(files) - 1)

    connection.send(Done(mapped(found, placed), tuple(files), changes))
    for file in files:
        reduction.send_handle(connection, file.descriptor, os.getppid())


def _only(own: int) -> None:
    """End a process that the function has forked, and that came back from it: only its parent reports."""
    if os.getpid() != own:
        flush_output()
        os._exit(1)


def _failed(error: BaseException) -> Failed:
    name, message = type_name(error), message_of(error)
    if isinstance(error, HpoError):
        return Failed(error, name, message, "") if _is_portable(error) else Failed(None, name, str(error), "")
    return Failed(error if _is_portable(error) else None, name, message, traceback_of(error))


def _is_portable(error: BaseException) -> bool:
    if type(error).__module__ not in ("builtins", hpo.errors.__name__):
        return False
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    # Arguments of an exception may be anything.
    except Exception:  # noqa: BLE001
        return False


def _end_orderly() -> NoReturn:
    """Join threads that are not daemons, run exit handlers, and end this process."""

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
