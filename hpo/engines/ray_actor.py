"""The Ray actor of one agent: it runs `hpo worker` in a separate process on the node that Ray chooses.

Ray's own process has threads and signal handlers, so the agent, its template and its trainers run as the
same processes as anywhere else. This module does not import Ray.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hpo.engines.subprocess_guard import INTERRUPT

_ERROR_BYTES = 4000


@dataclass(frozen=True)
class AgentEnd:
    """End of an agent."""

    code: int
    """Exit code; 128 + signal number if a signal ended it."""
    error: str
    """End of its stderr."""
    node: str


class AgentActor:
    """Created by Ray with the resources of the agent; CUDA_VISIBLE_DEVICES lists the allotted GPUs."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard_lock = threading.Lock()
        """Held to write to or close the guard pipe, which several of Ray's threads may do."""

    def node(self) -> str:
        """Return the node of this actor."""
        return socket.gethostname()

    def run(self) -> AgentEnd:
        """Run the agent until it ends. Ray calls this again after it restarts the actor elsewhere."""
        command = [sys.executable, "-P", "-m"]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                # -P: a folder named `hpo` in Ray's working directory must not shadow this package.
                [*command, "hpo.engines.subprocess_guard", *command, "hpo.cli", *self._arguments],
                stdin=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **self._environment},
            )
            self._process = process
            code = process.wait()
            with self._guard_lock:
                assert process.stdin is not None
                process.stdin.close()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _ERROR_BYTES))
            error = errors.read().decode(errors="replace").strip()
        return AgentEnd(code, error, self.node())

    def interrupt(self) -> None:
        """End the agent after its running epochs."""
        with self._guard_lock, suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(INTERRUPT)
                self._process.stdin.flush()

    def stop(self) -> None:
        """End the agent within 10 s; its trials are released."""
        with self._guard_lock, suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
