"""A fork that becomes a process of its own: its streams, its environment, its modules, and its entry in /proc."""

from __future__ import annotations

import atexit
import ctypes
import os
import runpy
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

MARK = "HPO_TEST_SERVICE"
"""Environment variable that identifies all processes of a service."""

UNMARKED = "-" * 32
"""The mark of a process that forks those of several services."""

ROOM = " " * 120
"""Last argument of a process whose forks show arguments of their own."""

_INSTALLED = sys.path[1:]
"""Module path without the folder in which an interpreter is started."""


def open_streams(*descriptors: int) -> None:
    """Read and write these in place of the standard streams."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)


def become(environment: Mapping[str, str], *folders: str) -> None:
    """Take over an environment; modules are imported from `folders` first."""
    _mark(environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:] = [*folders, *filter(None, environment.get("PYTHONPATH", "").split(":")), *_INSTALLED]


def run(arguments: Sequence[str]) -> NoReturn:
    """Run `python ARGUMENTS` in this process, and end as an interpreter does.

    The modules alone are not destroyed, because that takes longer than most commands.
    """
    code: object = 0
    try:
        _execute(arguments)
    except SystemExit as exc:
        code = exc.code or 0
    shut_down: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    shut_down()
    atexit._run_exitfuncs()
    if not isinstance(code, int):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _execute(arguments: Sequence[str]) -> None:
    match arguments:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case [script, *_]:
            sys.argv = list(arguments)
            runpy.run_path(script, run_name="__main__")


def _mark(environment: Mapping[str, str]) -> None:
    """Show the mark in an environment as that of this process and its forks.

    The system shows the memory that held the environment when an interpreter was started.
    """
    start, end = _of_stat(50)
    shown = ctypes.string_at(start, end - start)
    at = shown.find(f"{MARK}=".encode())
    if at >= 0:
        mark = environment.get(MARK, UNMARKED).encode()
        assert len(mark) == len(UNMARKED)
        ctypes.memmove(start + at + len(MARK) + 1, mark, len(mark))


def show_arguments(arguments: Sequence[str]) -> None:
    """Show `python ARGUMENTS` as the command line of this process."""
    start, end = _of_stat(48)
    shown = b"\0".join(map(os.fsencode, (sys.executable, *arguments)))
    assert len(shown) < end - start
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _of_stat(number: int) -> tuple[int, int]:
    """Return two fields of the system's description of this process, the first by its number."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    # The text after the parenthesis begins with the third field.
    return int(fields[number - 3]), int(fields[number - 2])
