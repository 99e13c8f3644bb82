"""The agent's end of a template: its process, the pipe to it, its log and its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from hpo.devices.gpus import visible_gpus
from hpo.devices.threads import hold_threads
from hpo.errors import FileNotWritableError
from hpo.ownership import open_private
from hpo.process.process_groups import kill_group
from hpo.settings import OF_OBJECTIVE
from hpo.trainer.pipe import MessageReader
from hpo.trainer.template.messages import Fork, FromTemplate, Import, Load
from hpo.trainer.template.pipe import decode

STATUS_SECONDS = 1.0
"""Time to wait for the exit status of a process whose pipe has closed."""

_WITHHELD = ("HPO_STORAGE", "HPO_DASHBOARD_", "PG")
"""Prefixes of variables that lead to the database, libpq's own included. Trainers do not get them, because an
objective may print anything."""


class TemplateProcess:
    """A running template."""

    def __init__(self, load: Load, log: Path, guard: int) -> None:
        """Start it; `guard` is the read end of a pipe that closes with this process."""
        self.connection, theirs = Pipe()
        with _opened(log) as output:
            self._process = start_interpreter((theirs.fileno(), guard), output)
        theirs.close()
        self._messages = MessageReader(self.connection)
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


def start_interpreter(descriptors: tuple[int, int], output: BinaryIO) -> subprocess.Popen[bytes]:
    """Start the interpreter of a template, which inherits these descriptors: its end of the pipe, and its guard."""
    return subprocess.Popen(
        # -P: a folder named `hpo` in the working directory must not shadow ours.
        [sys.executable, "-P", "-m", "hpo.trainer.template.fork_server", *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=template_environment(),
        # Its own session: the agent handles a Ctrl-C at the terminal.
        start_new_session=True,
    )


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(open_private(log, os.O_WRONLY | os.O_APPEND), "ab")
    except OSError as exc:
        raise FileNotWritableError(
            f"the log {log} cannot be written ({exc.strerror or exc}): fix that, or set HPO_HOME to another folder"
        ) from exc


def template_environment() -> dict[str, str]:
    """Return the template's environment: no database, quiet frameworks, no thread pools, large memory pages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    environment[OF_OBJECTIVE] = "1"
    # Without a GPU, TensorFlow logs as an error that it cannot initialize CUDA.
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if visible_gpus() else "3")
    hold_threads(environment)
    # Pages of 2 MiB save address lookups in large tensors. glibc reads this only at its start.
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in tunables:
        environment["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    return environment
