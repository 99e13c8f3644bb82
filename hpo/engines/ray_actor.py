"""The Ray actor that holds one agent: `hpo worker` in a process of its own, on the node where Ray puts it.

Not inside Ray's process, which has threads and signal handlers of its own: the agent, its template and
its trainers are the same processes as anywhere else. This module imports nothing of Ray.
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

_COMPLAINT_BYTES = 4000


@dataclass(frozen=True)
class AgentEnd:
    """How an agent ended."""

    code: int
    """Its exit code; 128 + the signal's number when a signal ended it."""
    complaint: str
    """The last that it wrote to stderr."""
    node: str


class AgentActor:
    """Made by Ray with the slot's resources; CUDA_VISIBLE_DEVICES is then what Ray has allotted."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._leash = threading.Lock()
        """Held to write to or close the agent's leash, which several of Ray's threads may do."""

    def node(self) -> str:
        """Where Ray has placed this actor."""
        return socket.gethostname()

    def run(self) -> AgentEnd:
        """Run the agent until it ends. Ray calls this again when it has restarted the actor elsewhere."""
        command = [sys.executable, "-P", "-m"]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                # -P: a folder named `hpo` where Ray happens to stand must not be taken for ours.
                [*command, "hpo.engines.subprocess_guard", *command, "hpo.cli", *self._arguments],
                stdin=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **self._environment},
            )
            self._process = process
            code = process.wait()
            with self._leash:
                assert process.stdin is not None
                process.stdin.close()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _COMPLAINT_BYTES))
            said = errors.read().decode(errors="replace").strip()
        return AgentEnd(code, said, self.node())

    def interrupt(self) -> None:
        """Let running epochs end, then end the agent."""
        with self._leash, suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(INTERRUPT)
                self._process.stdin.flush()

    def stop(self) -> None:
        """End the agent within 10 s; its trials go back to the study."""
        with self._leash, suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
