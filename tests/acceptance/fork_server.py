"""Forks Python commands from a process that has imported their modules, because imports take longer than most commands.

The commands run in real processes: each in a new session, with its own environment, folder, output and exit code.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class ForkServer:
    """A process that forks one command at a time."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Start a process that imports `modules` once."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            start_new_session=True,
        )

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        outputs: tuple[Path, Path],
        timeout: float,
    ) -> int:
        """Run `python ARGUMENTS` with its output in two files, and return its exit code as `subprocess` does.

        Raises subprocess.TimeoutExpired after that many seconds, when its process has been killed.
        """
        request = [list(arguments), dict(environment), str(cwd), *map(str, outputs)]
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        pid = self._answer()
        late = not select.select([self._process.stdout], [], [], timeout)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        code = self._answer()
        if late:
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return code

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve() -> None:
    """Fork a command for each line of standard input, and print its process id and then its exit code."""
    gc.freeze()
    while line := sys.stdin.readline():
        arguments, environment, cwd, *outputs = json.loads(line)
        if (pid := os.fork()) == 0:
            _become(environment, cwd, outputs)
            _run(arguments)
            return
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(environment: Mapping[str, str], cwd: str, outputs: Sequence[str]) -> None:
    """Take over the session, streams, environment and folder of a command."""
    os.setsid()
    for number, path in enumerate((os.devnull, *outputs)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
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
    for name in sys.argv[1:]:
        importlib.import_module(name)
    serve()
