"""A template that is forked from its command's process before the command begins.

An interpreter would import all modules again. A template that replaces another is an interpreter, and so are all
templates of commands that are not forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from typing import BinaryIO, NoReturn

from hpo.trainer import trainer  # noqa: F401 - a template imports it late
from hpo.trainer.template import fork_server, interpreter
from tests.acceptance.forked_process import become, open_streams, run, show_arguments

MODULE = fork_server.__name__


def provide(arguments: Sequence[str]) -> None:
    """Fork a template for a command, if it needs one."""
    match arguments:
        case ["-m", "hpo.cli", "launch" | "worker" | "retrain", *_]:
            SpareTemplate()


class SpareTemplate:
    """A fork of a command's process, which waits until the command needs a template."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._connection.close()
            _run_template(theirs)
        theirs.close()
        self._code: int | None = None
        self._start_interpreter = interpreter.start_interpreter
        interpreter.start_interpreter = self._start  # type: ignore[assignment]

    def _start(
        self, descriptors: tuple[int, int], output: BinaryIO
    ) -> SpareTemplate | subprocess.Popen[bytes]:
        interpreter.start_interpreter = self._start_interpreter
        try:
            self._connection.send(interpreter.template_environment())
            for descriptor in (*descriptors, output.fileno()):
                reduction.send_handle(self._connection, descriptor, self.pid)
        except OSError:
            # It was killed meanwhile.
            return self._start_interpreter(descriptors, output)
        return self

    # The interface of `subprocess.Popen`, as far as templates need it.

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout or 0.0)
        while self._code is None:
            try:
                pid, status = os.waitpid(self.pid, 0 if timeout is None else os.WNOHANG)
            except ChildProcessError:
                # A signal interrupted an earlier wait that had its status; `Popen` returns 0 then too.
                self._code = 0
                break
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                raise subprocess.TimeoutExpired(MODULE, timeout or 0.0)
            else:
                time.sleep(0.002)
        return self._code

    def kill(self) -> None:
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _run_template(agent: Connection) -> NoReturn:
    """Become a template, once the agent has sent its environment and descriptors."""
    # Its own session from now on: signals to the agent's group are not for it.
    os.setsid()
    try:
        environment: Mapping[str, str] = agent.recv()
        *descriptors, output = (reduction.recv_handle(agent) for _ in range(3))
    except (EOFError, OSError):
        os._exit(0)
    agent.close()
    open_streams(os.open(os.devnull, os.O_RDONLY), os.dup(output), output)
    arguments = ["-m", MODULE, *map(str, descriptors)]
    become(environment)
    show_arguments(arguments)
    # It was imported only for the modules that it imports.
    del sys.modules[MODULE]
    run(arguments)
