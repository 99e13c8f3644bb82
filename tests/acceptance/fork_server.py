"""Forks Python commands from a process that has imported their modules, because imports take longer than most commands.

The commands run in real processes: each in a new session, with its own environment, folder, output and exit code.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import NoReturn

from tests.acceptance.forked_process import MARK, ROOM, UNMARKED, become, open_streams, run
from tests.locks import locked

SPARES = "tests.acceptance.spare_template"
"""Module that forks templates for commands, if it is among those that a server imports."""

HELD = {"OPENBLAS_NUM_THREADS": "1"}
"""Variables that keep libraries from starting threads, as `hpo` does for its templates."""

OBEYED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Variables of an interpreter's start that commands obey although they are forked."""


class ForkServer:
    """A process that forks commands for this one, itself a fork of one that has imported their modules."""

    def __init__(self, modules: Sequence[str], folder: Path) -> None:
        """Connect to the process that imports `modules` for all test processes of a run, which share a folder."""
        address = folder / f"forks-{zlib.crc32(' '.join(modules).encode()):08x}"
        with locked(address.with_suffix(".lock")):
            try:
                self._connection = _connected(address)
            except (OSError, EOFError):
                _start(modules, address)
                self._connection = _connected(address)
        self._codes: dict[int, int] = {}

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        outputs: tuple[Path, Path],
    ) -> ForkedCommand:
        """Start `python ARGUMENTS` with its output in two files."""
        self._connection.send((list(arguments), dict(environment), str(cwd), [*map(str, outputs)]))
        while (pid := self._receive()) is None:
            pass
        return ForkedCommand(self, list(arguments), pid)

    def run(self, code: str, folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run `python -c CODE` in a folder to its end, and leave its output there too."""
        out, err = outputs = folder / "code.out", folder / "code.err"
        command = self.start(["-c", code], os.environ, folder, outputs)
        try:
            ended = command.wait(timeout)
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
            command.wait()
            raise
        return subprocess.CompletedProcess(["-c", code], ended, out.read_text(), err.read_text())

    def code(self, pid: int, timeout: float | None = 0.0) -> int | None:
        """Return the exit code of a command; None if it still runs after that many seconds."""
        while pid not in self._codes and self._connection.poll(timeout):
            self._receive()
        return self._codes.get(pid)

    def _receive(self) -> int | None:
        """Note the exit code of a command, or return the id of one that has started."""
        pid, code = self._connection.recv()
        if code is None:
            # The system may give the id of a command that has ended to another.
            self._codes.pop(pid, None)
            return int(pid)
        self._codes[pid] = code
        return None

    def close(self) -> None:
        """End the process, and the one that has imported the modules if this was the last one that it served."""
        self._connection.close()


class ForkedCommand:
    """A command, with the interface of `subprocess.Popen` for its end."""

    def __init__(self, server: ForkServer, arguments: list[str], pid: int) -> None:
        self._server = server
        self._arguments = arguments
        self._code: int | None = None
        self.pid = pid

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._server.code(self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code; raises subprocess.TimeoutExpired after that many seconds."""
        if self._code is None:
            self._code = self._server.code(self.pid, timeout)
        if self._code is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _connected(address: Path) -> Connection:
    """Connect to a process that forks commands; raises OSError or EOFError if none answers."""
    connection = Client(str(address), family="AF_UNIX")
    # One that is about to end accepts no more.
    connection.recv()
    return connection


def _start(modules: Sequence[str], address: Path) -> None:
    """Start the process that imports the modules, and return when it has."""
    address.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-m", __name__, str(address), ROOM],
        input="\n".join(modules).encode(),
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", MARK: UNMARKED} | HELD,
        start_new_session=True,
        check=True,
    )


def main() -> None:
    """Import the modules that are listed on standard input, and fork a process for each that connects."""
    address, names = sys.argv[1], sys.stdin.read().split()
    # Nothing is garbage while modules are imported: looking for it takes a quarter of Keras' import.
    gc.disable()
    for name in names:
        importlib.import_module(name)
    gc.enable()
    gc.freeze()
    open_streams(os.open(os.devnull, os.O_RDONLY))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    # The first test process waits until it can connect.
    if os.fork():
        os._exit(0)
    wake = _wake_at_ended_children()
    served = 0
    while True:
        if wake in wait([listener, wake]):
            os.read(wake, 4096)
            while served and os.waitpid(-1, os.WNOHANG)[0]:
                served -= 1
            if not served:
                return
            continue
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(wake)
            serve(Connection(client.detach()))
            os._exit(0)
        served += 1
        client.close()


def _wake_at_ended_children() -> int:
    """Return a descriptor that can be read when a child process has ended."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    previous = signal.set_wakeup_fd(wake_write)
    if previous >= 0:
        os.close(previous)
    return wake_read


def serve(client: Connection) -> None:
    """Fork a command for each request, send its process id, and later its process id and exit code."""
    client.send("ready")
    wake_read = _wake_at_ended_children()
    running: set[int] = set()
    while True:
        if wake_read in wait([client, wake_read]):
            os.read(wake_read, 4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    running.remove(pid)
                    client.send((pid, os.waitstatus_to_exitcode(status)))
            continue
        try:
            arguments, environment, cwd, outputs = client.recv()
        except EOFError:
            return
        if (pid := os.fork()) == 0:
            os.close(signal.set_wakeup_fd(-1))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            client.close()
            os.close(wake_read)
            _run_command(arguments, environment, cwd, outputs)
        running.add(pid)
        client.send((pid, None))


def _run_command(
    arguments: list[str], environment: Mapping[str, str], cwd: str, outputs: Sequence[str]
) -> NoReturn:
    """Run a command in a session, folder and environment of its own."""
    os.setsid()
    open_streams(
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(path, os.O_WRONLY | os.O_CREAT) for path in outputs),
    )
    os.chdir(cwd)
    become(environment, cwd)
    if spares := sys.modules.get(SPARES):
        spares.provide(arguments)
    run(arguments)


if __name__ == "__main__":
    main()
