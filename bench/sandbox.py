"""A benchmark's sandbox: an empty HPO_HOME with a private PostgreSQL, and processes that end with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from sqlalchemy import Row, create_engine, text
from sqlalchemy.pool import NullPool

from storage.embedded.server import EmbeddedServer
from storage.engine import Database
from storage.opening import open_database

ROOT = Path(__file__).parent.parent


class Sandbox:
    """A temporary folder, removed at the end: `with Sandbox() as sandbox`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-bench-"))
        # Started by root, PostgreSQL runs as another user, which needs access.
        self.folder.chmod(0o755)
        self.home = self.folder / "home"
        self._server: EmbeddedServer | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """URL of the private server, which is started here unless a command has started it."""
        if self._server is None:
            self._server = EmbeddedServer.start(self.home)
        return self._server.url

    def environment(self, **variables: object) -> dict[str, str]:
        """Return the environment for processes, without the caller's settings except the data folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        if "HPO_DATA_DIR" in os.environ:
            kept["HPO_DATA_DIR"] = str(Path(os.environ["HPO_DATA_DIR"]).absolute())
        ours = {"HPO_HOME": self.home, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "2"}
        return kept | {name: str(value) for name, value in (ours | variables).items()}

    def database(self) -> Database:
        """Open the private server's database, with all tables."""
        return open_database(self.url, self.home)

    def rows(self, sql: str, **parameters: Any) -> list[Row[Any]]:
        """Return the rows of a statement."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            result = connection.execute(text(sql), parameters)
            return list(result) if result.returns_rows else []

    def start(
        self, arguments: Sequence[object], environment: Mapping[str, str], log: str = "log"
    ) -> subprocess.Popen[bytes]:
        """Start `python …` in its own session; its output is appended to a file in the folder."""
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=self.folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, *arguments: object, **variables: object) -> float:
        """Run `python …` to its end; return its wall time in seconds.

        Raises:
            RuntimeError: it failed; the message contains the end of its output.
        """
        began_at = time.perf_counter()
        process = self.start(arguments, self.environment(**variables))
        code = process.wait()
        seconds = time.perf_counter() - began_at
        if code:
            raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {code}: {self.log_tail()}")
        return seconds

    def log_tail(self, log: str = "log") -> str:
        lines = (self.folder / log).read_text(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-4:])[-400:]

    def end_processes(self) -> None:
        """End all processes started here, with their descendants."""
        for process in self._processes:
            family: list[subprocess.Popen[bytes] | psutil.Process] = [process]
            with suppress(psutil.NoSuchProcess):
                family += psutil.Process(process.pid).children(recursive=True)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(15)
            for member in reversed(family):
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    member.kill()
            process.wait()
        self._processes.clear()

    def __enter__(self) -> Sandbox:
        # A terminated benchmark must end the processes that it has started.
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_processes()
        if (self.home / "postgres").exists():
            # A killed command has not stopped the server: join it and leave as its last user.
            EmbeddedServer.start(self.home).close()
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
