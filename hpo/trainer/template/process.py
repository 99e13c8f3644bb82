"""The agent's end of a template: its process and the messages to it and from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path

from hpo.process.process_groups import kill_group
from hpo.trainer.pipe import MessageReader
from hpo.trainer.template.interpreter import Interpreter
from hpo.trainer.template.messages import Fork, FromTemplate, Import, Load
from hpo.trainer.template.pipe import decode

STATUS_SECONDS = 1.0
"""Time to wait for the exit status of a process whose pipe has closed."""


def start_template(load: Load, log: Path, guard: int) -> TemplateProcess:
    """Start a template; `guard` is the read end of a pipe that closes with this process."""
    template = TemplateProcess(Interpreter(log, guard))
    template.load(load)
    return template


class TemplateProcess:
    """A running template."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.connection, self._process = interpreter.connection, interpreter.process
        self._messages = MessageReader(self.connection)

    def load(self, load: Load) -> None:
        """Let it load an objective, once."""
        # One that has died already is detected at its closed pipe.
        with suppress(OSError):
            self.connection.send(load)

    def receive(self) -> Iterator[FromTemplate]:
        """Yield the messages that have arrived.

        Raises:
            EOFError, OSError: it has ended.
            UnreadableMessageError: code of the objective has written to its pipe.
        """
        return map(decode, self._messages.read())

    def request(self, fork: Fork, pipe_end: Connection) -> None:
        """Request a trainer that gets this end of a pipe.

        Raises:
            OSError: the template has ended.
        """
        self.connection.send(fork)
        reduction.send_handle(self.connection, pipe_end.fileno(), self._process.pid)

    def import_modules(self, modules: Import) -> None:
        """Let it import modules before the next trainer is forked; it notices its own end later."""
        with suppress(OSError):
            self.connection.send(modules)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> int:
        """Close its pipe, at which it ends or is killed, and return its exit status."""
        self.connection.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(STATUS_SECONDS)
            self._process.kill()
            return self._process.wait()
        finally:
            # It led a session, with the processes that the objective started while it was imported.
            kill_group(self._process.pid)
