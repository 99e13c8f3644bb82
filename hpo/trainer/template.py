"""The process that has imported Keras, the objective and the data once; trainers are forked from it.

Started by the agent as `python -m hpo.trainer.template FD LIFELINE`. It stays single-threaded and touches no
accelerator, so that a fork of it is sound, and ends, with nothing left behind, when its agent does.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection as mp_connection
from multiprocessing import reduction
from multiprocessing.connection import Connection

from hpo.devices.provenance import versions
from hpo.errors import HpoError
from hpo.process import orphan_guard
from hpo.process.process_groups import ProcessGroups
from hpo.trainer.messages import Described, Exited, Fork, Forked, Load, LoadFailed, NotForked, Ready
from objectives.base import Objective

LOADING_THRESHOLD = 100_000
"""New objects after which the garbage collector looks for cycles while an objective is loaded; Python's own is 700."""


def main() -> None:
    """Load what the agent asks for, then fork a trainer for each request until the agent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent: Connection = Connection(int(sys.argv[1]))
    life = int(sys.argv[2])
    # What the objective starts while it is imported ends with the agent too.
    orphan_guard.arm(life)
    orphan_guard.adopt_orphans()
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        # Modules stay for good: looking through them again and again while they are imported takes half a second.
        usual = gc.get_threshold()
        gc.set_threshold(LOADING_THRESHOLD)
        with _ending_with(agent):
            objective = _load(agent)
        gc.set_threshold(*usual)
        if objective is None:
            return
        # What exists now is shared with every trainer; the collector must not touch its pages.
        gc.collect()
        gc.freeze()
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
                    request: Fork = agent.recv()
                    _fork(agent, request, objective, life, (wake_read, wake_write), groups)
        finally:
            groups.kill_all()
    except (EOFError, OSError):
        # The agent is gone, and trainers see the same.
        return


@contextmanager
def _ending_with(agent: Connection) -> Iterator[None]:
    """End this process as soon as the agent's end of the pipe closes, whatever is being loaded.

    By a thread that has ended before anything is forked.
    """
    stop_read, stop_write = os.pipe()
    watched = select.poll()
    # No events but the end: the agent may already have asked for a trainer.
    watched.register(agent.fileno(), 0)
    watched.register(stop_read, select.POLLIN)

    def watch() -> None:
        if any(descriptor == agent.fileno() for descriptor, _ in watched.poll()):
            os._exit(0)

    thread = threading.Thread(target=watch, name="watcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(stop_write, b".")
        thread.join()
        os.close(stop_write)
        os.close(stop_read)


def _load(agent: Connection) -> Objective | None:
    load: Load = agent.recv()
    began = time.monotonic()
    try:
        from objectives import loader

        cls = loader.load(load.objective)
        agent.send(Described(cls.describe(load.objective)))
        objective = cls()
        objective.prepare(load.data, load.final)
    except HpoError as exc:
        agent.send(LoadFailed(type(exc).__name__, str(exc)))
        return None
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - the user's code: whatever it raises is told
        message = f"preparing {load.objective} failed: {type(exc).__name__}: {' '.join(str(exc).split())}"
        agent.send(LoadFailed("ObjectiveBrokenError", message, traceback.format_exc()))
        return None
    # Here once, or every trainer would import it anew.
    from hpo.trainer import trainer  # noqa: F401

    agent.send(Ready(time.monotonic() - began, versions()))
    return objective


def _fork(
    agent: Connection,
    request: Fork,
    objective: Objective,
    life: int,
    wake: tuple[int, int],
    groups: ProcessGroups,
) -> None:
    descriptor = reduction.recv_handle(agent)
    try:
        pid = os.fork()
    except OSError as exc:
        os.close(descriptor)
        agent.send(NotForked(request.serial, exc.strerror or str(exc)))
        return
    if pid:
        os.close(descriptor)
        # Here and in the child, whichever comes first: once its id is known, its group exists.
        with suppress(OSError):
            os.setpgid(pid, pid)
        groups.add(pid)
        agent.send(Forked(request.serial, pid))
        return
    # In the trainer. Nothing of the template's may stay open here, or its end would go unnoticed.
    try:
        # Leader of a group, so that what it starts ends with it.
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        agent.close()
        orphan_guard.arm(life)
        for wake_end in wake:
            os.close(wake_end)
        from hpo.trainer.trainer import train
        from objectives.backend import bind

        bind(request.device)
        train(Connection(descriptor), objective)
    except BaseException:  # noqa: BLE001 - a forked copy must never run on into the template's loop
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
        in_order = (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)
        if not in_order:
            groups.kill(ended.si_pid)
        pid, status = os.waitpid(ended.si_pid, 0)
        if in_order:
            # Its children may have something to tidy up. It is none of them any more: it has been waited for.
            groups.terminate(pid)
        agent.send(Exited(pid, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
