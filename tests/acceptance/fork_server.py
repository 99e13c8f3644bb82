"""Forks Python commands from a process that has imported their modules, because imports take longer than most commands.

The commands run in real processes: each in a new session, with its own environment, folder, output and exit code.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

OBEYED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Variables of an interpreter's start that commands obey although they are forked."""


class ForkServer:
    """A process that forks commands."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Start a process that imports `modules` once."""
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            start_new_session=True,
        )
        theirs.close()
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
        """End the process."""
        self._connection.close()
        self._process.wait()


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


def serve(client: Connection) -> None:
    """Fork a command for each request, send its process id, and later its process id and exit code."""
    os.set_inheritable(client.fileno(), False)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    gc.freeze()
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
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            client.close()
            os.close(wake_read)
            os.close(wake_write)
            _become(environment, cwd, outputs)
            _run(arguments)
            return
        running.add(pid)
        client.send((pid, None))


def _become(environment: Mapping[str, str], cwd: str, outputs: Sequence[str]) -> None:
    """Take over the session, streams, environment and folder of a command."""
    os.setsid()
    for number, path in enumerate((os.devnull, *outputs)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:1] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(":"))]


def _run(arguments: list[str]) -> None:
    sys.argv = arguments
    match arguments:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case [script, *_]:
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    # Nothing is garbage while modules are imported: looking for it takes a quarter of Keras' import.
    gc.disable()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.enable()
    serve(Connection(int(sys.argv[1])))
