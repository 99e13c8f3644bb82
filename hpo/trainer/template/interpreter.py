"""The interpreter of a template: its process, the pipe to it, its log and its environment.

This module imports little, so that a command can start the interpreter before its own imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import BinaryIO

from hpo.devices.gpus import visible_gpus
from hpo.devices.threads import hold_threads
from hpo.errors import FileNotWritableError
from hpo.ownership import open_private
from hpo.settings import OF_OBJECTIVE, Settings
from hpo.trainer.template.compiled import keep_programs

_WITHHELD = ("HPO_STORAGE", "HPO_DASHBOARD_", "PG")
"""Prefixes of variables that lead to the database, libpq's own included. Trainers do not get them, because an
objective may print anything."""


def template_log(study: str, home: Path) -> Path:
    """Return the log of this process's template for a study.

    Not in the study's own folder, whose name is unknown before the study is created.
    """
    return home / "logs" / f"template-{study}-{os.getpid()}.log"


class Interpreter:
    """A running interpreter, which imports the modules of a template and waits for its `Load`."""

    def __init__(self, log: Path, guard: int) -> None:
        """Start it; `guard` is the read end of a pipe that closes with this process."""
        self.connection, theirs = Pipe()
        with _opened(log) as output:
            self.process = start_interpreter((theirs.fileno(), guard), output)
        theirs.close()


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
    """Return the template's environment: no database, quiet frameworks, no thread pools, large memory pages, and the
    folder of compiled programs.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    environment[OF_OBJECTIVE] = "1"
    # Without a GPU, TensorFlow logs as an error that it cannot initialize CUDA.
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if visible_gpus() else "3")
    hold_threads(environment)
    # Pages of 2 MiB save address lookups in large tensors. glibc reads this only at its start.
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in tunables:
        environment["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    keep_programs(environment, Settings.from_environment().home)
    return environment
