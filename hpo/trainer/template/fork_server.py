"""The process that has imported Keras, the objective and the data once; trainers are forked from it.

Started by the agent as `python -m hpo.trainer.template.fork_server FD GUARD`. It stays single-threaded and touches no
accelerator, so that a fork of it is sound; if its objective starts threads, the agent replaces it by a template that
loads less. It ends, with nothing left behind, when its agent does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection as mp_connection
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path

from hpo.devices.provenance import DATA, versions
from hpo.devices.threads import find_libraries
from hpo.errors import HpoError
from hpo.process.process_groups import ProcessGroups, adopt_orphans, end_group, end_with_agent
from hpo.settings import Settings
from hpo.trainer.ends.ending import flush_before_forks, forget_template
from hpo.trainer.ends.failures import one_line, traceback_of
from hpo.trainer.output import flush_output
from hpo.trainer.template.data_process import DataProcess, traceback_in_function
from hpo.trainer.template.fork_safety import ThreadCheck, imported_frameworks
from hpo.trainer.template.loading import ObjectiveLoader
from hpo.trainer.template.messages import (
    Described,
    Exited,
    Fork,
    Forked,
    Import,
    ImportEnded,
    Load,
    LoadFailed,
    Loading,
    NotForked,
    Preload,
    Ready,
    Unforkable,
)
from hpo.trainer.template.pipe import send
from objectives.data.returned.calling import called_by
from objectives.data.returned.module_state import UnshareableError
from objectives.values import text

LOADING_THRESHOLD = 100_000
"""New objects between two garbage collections while an objective is loaded; Python's default is 700."""


def main() -> None:
    """Load the agent's objective, then fork a trainer for each request until the agent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent: Connection = Connection(int(sys.argv[1]))
    guard = int(sys.argv[2])
    # A script that reads its arguments while it trains gets its defaults.
    del sys.argv[1:]
    # Processes that the objective starts while it is imported end with the agent too.
    end_with_agent(guard)
    adopt_orphans()
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        with _loading(agent):
            loaded = _load(agent)
        if loaded is None:
            return
        _share(loaded)
        groups = ProcessGroups()
        try:
            while True:
                ready = mp_connection.wait([agent, wake_read], groups.seconds_until_due())
                groups.kill_due()
                if wake_read in ready:
                    with suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    _reap(agent, groups)
                if agent in ready:
                    request: Fork | Import = agent.recv()
                    if isinstance(request, Import):
                        _import(agent, request, loaded)
                    else:
                        _fork(agent, request, loaded, guard, (wake_read, wake_write), groups)
        finally:
            groups.kill_all()
    except (EOFError, OSError):
        # The agent is gone, and trainers see the same. Exit handlers of the objective run as ever.
        for step in (atexit._run_exitfuncs, flush_output):
            with suppress(BaseException):
                step()
        end_group()


@contextmanager
def _loading(agent: Connection) -> Iterator[None]:
    """Load in this block, which ends this process as soon as the agent is gone."""
    # Modules stay for good: collecting garbage often while they are imported takes half a second.
    default = gc.get_threshold()
    gc.set_threshold(LOADING_THRESHOLD)
    with _exit_with(agent):
        yield
    gc.set_threshold(*default)


def _share(loaded: ObjectiveLoader) -> None:
    """Share all objects with every trainer from now on: the garbage collector must not touch their pages."""
    gc.collect()
    find_libraries()
    flush_before_forks()
    loaded.freeze()
    gc.freeze()


@contextmanager
def _exit_with(agent: Connection) -> Iterator[None]:
    """End this process as soon as the agent closes its end of the pipe, even while an objective is loaded.

    A thread does so, which has ended before the first fork.
    """
    stop_read, stop_write = os.pipe()
    watched = select.poll()
    # Only the end, no input: the agent may already have requested a trainer.
    watched.register(agent.fileno(), 0)
    watched.register(stop_read, select.POLLIN)

    def watch() -> None:
        if any(descriptor == agent.fileno() for descriptor, _ in watched.poll()):
            end_group()

    thread = threading.Thread(target=watch, name="watcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(stop_write, b".")
        thread.join()
        os.close(stop_write)
        os.close(stop_read)


def _load(agent: Connection) -> ObjectiveLoader | None:
    """Load as much of the objective as the agent asks for; return None if trainers cannot be forked from this process.

    A template that loads nothing is not checked: its threads are not those of the objective.
    """
    load: Load = agent.recv()
    if load.data.cache_dir is None:
        load = replace(load, data=replace(load.data, cache_dir=str(Settings.from_environment().cache_dir)))
    loaded, check, environment = ObjectiveLoader(load), ThreadCheck(), dict(os.environ)
    process = _data_process(agent, load, check)
    try:
        if load.preload is not Preload.NOTHING:
            send(agent, Described(loaded.describe()))
            if threads := check.cause():
                send(agent, Unforkable(threads, Preload.NOTHING))
                return None
        if load.preload is Preload.ALL:
            with called_by(process):
                loaded.prepare()
            if threads := check.cause():
                send(agent, Unforkable(threads, Preload.IMPORTS, imported_frameworks(environment)))
                return None
    except UnshareableError as exc:
        send(agent, Unforkable("", Preload.IMPORTS, imported_frameworks(environment), text(str(exc))))
        return None
    except HpoError as exc:
        send(agent, LoadFailed(type(exc).__name__, text(str(exc))))
        return None
    except BaseException as exc:  # noqa: BLE001 - user code may raise anything; it is reported
        message = f"preparing {load.objective} failed: {one_line(exc)}"
        traceback_text = traceback_in_function(exc) or traceback_of(exc)
        send(agent, LoadFailed("ObjectiveBrokenError", message, traceback_text))
        return None
    # Here, or every trainer would import it again.
    from hpo.trainer import trainer  # noqa: F401
    from hpo.trainer.lanes import host  # noqa: F401

    data = loaded.describe_data()
    notes = tuple(map(text, process.notes))
    send(agent, Ready(versions() | ({DATA: data} if data else {}), loaded.data_warning(), notes))
    return loaded


def _data_process(agent: Connection, load: Load, check: ThreadCheck) -> DataProcess:
    def watch(stage: str, done: int, total: int) -> None:
        send(agent, Loading(stage, done, total))

    return DataProcess(Path(load.data.cache_dir or ""), load.data.split_seed, watch, check)


def _import(agent: Connection, request: Import, loaded: ObjectiveLoader) -> None:
    """Import the modules of an agent's request, and end this process if it cannot be forked afterwards."""
    check, problem = ThreadCheck(), ""
    with _loading(agent):
        for name in request.modules:
            try:
                importlib.import_module(name)
            except BaseException as exc:  # noqa: BLE001 - code of packages may raise anything
                problem = f"importing {name} ahead of them failed: {one_line(exc)}"
                break
    if not problem and (threads := check.cause()):
        problem = f"importing {' and '.join(request.modules)} starts {threads}"
    send(agent, ImportEnded(text(problem)))
    if problem:
        # At once: another template follows, and trainers go on without this one.
        os._exit(1)
    _share(loaded)


def _fork(
    agent: Connection,
    request: Fork,
    loaded: ObjectiveLoader,
    guard: int,
    wake: tuple[int, int],
    groups: ProcessGroups,
) -> None:
    descriptor = reduction.recv_handle(agent)
    try:
        pid = os.fork()
    except OSError as exc:
        os.close(descriptor)
        send(agent, NotForked(request.serial, exc.strerror or str(exc)))
        return
    if pid:
        os.close(descriptor)
        # Here and in the child, whichever comes first: its group exists once its id is known.
        with suppress(OSError):
            os.setpgid(pid, pid)
        groups.add(pid)
        send(agent, Forked(request.serial, pid))
        return
    # In the trainer.
    forget_template()
    # No pipe of the template may stay open here, or its end would go unnoticed.
    try:
        # Leader of a group, so that its child processes end with it.
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        agent.close()
        end_with_agent(guard)
        for wake_end in wake:
            os.close(wake_end)
        from hpo.trainer.lanes.host import host
        from hpo.trainer.trainer import train
        from objectives.backend import bind

        bind(request.device)
        (host if request.lanes else train)(Connection(descriptor), loaded)
    except BaseException:  # noqa: BLE001 - a fork must never return into the template's loop
        with suppress(Exception):
            traceback.print_exc()
    finally:
        os._exit(1)


def _reap(agent: Connection, groups: ProcessGroups) -> None:
    while True:
        try:
            # It keeps its id until it is waited for, so the group is still its own.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        orderly = (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)
        if not orderly:
            groups.kill(ended.si_pid)
        pid, status = os.waitpid(ended.si_pid, 0)
        if orderly:
            # Its children may need to clean up; the trainer itself has been waited for.
            groups.terminate(pid)
        send(agent, Exited(pid, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
