"""The real `hpo` in real processes on a database for one test, and checks of its records afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import optuna
import psutil
from optuna.storages import RDBStorage
from sqlalchemy import Row, create_engine, text
from sqlalchemy.pool import NullPool

from storage.studies import folder_name
from tests.acceptance.fork_server import OBEYED, ForkedCommand, ForkServer
from tests.acceptance.forked_process import MARK
from tests.acceptance.hpo_commands import HpoCommands

T = TypeVar("T")

OBJECTIVES = Path(__file__).with_name("objectives_for_tests.py")

TIMEOUT = 150.0

SOON = 30.0
"""Seconds within which something ends that ends at once on an idle machine; it would go on for a minute or longer."""


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def trial_lines(self) -> list[str]:
        """The messages that report how a trial ended."""
        found = re.findall(
            r"^\S+Z INFO study=\S+ trial=\d+(?: attempt=\d+)? (\w+ (?:value=\S+ )?epochs=.*)$",
            self.out,
            re.MULTILINE,
        )
        return [str(line) for line in found]

    def clean(self, code: int = 0) -> Completed:
        """Return itself; it must have ended with that code and printed nothing on stderr."""
        assert (self.code, self.err) == (code, ""), self
        return self

    def complaint(self, code: int = 1) -> str:
        """Return the only line on stderr; it must have ended with that code."""
        assert self.code == code, self
        assert self.err.startswith("hpo: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err + self.out
        return self.err.strip()


class Running:
    """A command in a new session, as under another terminal."""

    def __init__(self, process: subprocess.Popen[bytes] | ForkedCommand, outputs: tuple[Path, Path]) -> None:
        self._process = process
        self._out, self._err = outputs

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def template(self) -> psutil.Process:
        """The process that forks its trainers."""
        children = psutil.Process(self.pid).children()
        return next(child for child in children if "hpo.trainer.template.fork_server" in child.cmdline())

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def output(self) -> str:
        """Return its output so far."""
        return self._out.read_text()

    def wait(self, timeout: float = TIMEOUT) -> Completed:
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running after {timeout} s:\n{self.output()}{self._err.read_text()}"
            ) from None
        return Completed(code, self.output(), self._err.read_text())

    def kill(self) -> None:
        """Kill this process only."""
        if self.alive:
            self.send_signal(signal.SIGKILL)
        self._process.wait()


class Service:
    """The commands of one user of one database."""

    def __init__(self, folder: Path, url: str, commands: HpoCommands | None = None) -> None:
        """Serve a database; `commands` forks the processes of its commands, if it is given."""
        self.folder = folder
        self.url = url
        self.commands = commands
        """Forks the processes of later commands."""
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HPO_", "TEST_"))
        } | {
            "HPO_HOME": str(folder / "home"),
            "HPO_RESULTS_DIR": str(folder / "results"),
            "HPO_CHECKPOINTS": str(folder / "checkpoints"),
            "HPO_STORAGE": url,
            "TEST_HURRY": str(folder / "hurry"),
            MARK: uuid.uuid4().hex,
        }
        # Its connections are kept: a wait asks many times a second.
        self._engine = create_engine(url, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        self._started: list[Running] = []
        self._count = 0
        self.before: Sequence[str] = ()
        """Prefix of later commands, for instance to run them on another host; it must `exec` them."""

    @property
    def checkpoints(self) -> Path:
        """Folder with the checkpoints of study `s`."""
        return self.folder / "checkpoints" / self._study_folder

    @property
    def logs(self) -> Path:
        """Folder with the logs of the attempts of study `s`."""
        return self.folder / "home" / "logs" / self._study_folder

    @cached_property
    def _study_folder(self) -> str:
        return folder_name("s", self.value("SELECT uid FROM hpo.studies WHERE name = 's'"))

    def set(self, **variables: object) -> None:
        """Set environment variables of later commands."""
        self.environment |= {name: str(value) for name, value in variables.items()}

    def start(self, *arguments: object) -> Running:
        """Start a command, which runs while the test continues."""
        self._started.append(self._run(self.commands, "-m", "hpo.cli", *arguments))
        return self._started[-1]

    def hpo(self, *arguments: object, timeout: float = TIMEOUT) -> Completed:
        """Run a command to its end."""
        return self._completed(self.commands, "-m", "hpo.cli", *arguments, timeout=timeout)

    def python(self, commands: HpoCommands | ForkServer, *arguments: object) -> Completed:
        """Run `python ARGUMENTS`, which must succeed, in a process that `commands` forks."""
        ended = self._completed(commands, *arguments, timeout=TIMEOUT)
        assert ended.code == 0, ended.err
        return ended

    def _completed(
        self, commands: HpoCommands | ForkServer | None, *arguments: object, timeout: float
    ) -> Completed:
        running = self._run(commands, *arguments)
        try:
            return running.wait(timeout)
        finally:
            running.kill()

    def _run(self, commands: HpoCommands | ForkServer | None, *arguments: object) -> Running:
        self._count += 1
        out, err = outputs = tuple(
            self.folder / f"command-{self._count}.{stream}" for stream in ("out", "err")
        )
        words = [str(argument) for argument in arguments]
        # An interpreter reads its own variables when it starts.
        if commands and not self.before and _of_python(self.environment) == _of_python(os.environ):
            # The command may not have opened them when the test reads them.
            out.touch()
            err.touch()
            return Running(commands.start(words, self.environment, self.folder, outputs), outputs)
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [*self.before, sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        return Running(process, outputs)

    def launch(self, objective: str, *arguments: object, study: str = "s") -> Running:
        """Start `hpo launch` with an objective of `objectives_for_tests`."""
        return self.start("launch", "--study", study, "--objective", f"{OBJECTIVES}:{objective}", *arguments)

    def launched(self, objective: str, *arguments: object, study: str = "s") -> Completed:
        """Run `hpo launch` with an objective of `objectives_for_tests` to its end."""
        return self.hpo("launch", "--study", study, "--objective", f"{OBJECTIVES}:{objective}", *arguments)

    def begin(
        self,
        objective: str = "Counted",
        *arguments: object,
        trials: int = 1,
        workers: int = 1,
        epochs: int = 40,
        epoch_seconds: float = 0.4,
        at: int = 3,
    ) -> Running:
        """Start a study, and return when its first trials have finished epoch `at`.

        All epochs together take far longer than anything that a test does meanwhile; `hurry` ends them.
        """
        self.set(TEST_EPOCH_SECONDS=epoch_seconds)
        size = ("--trials", trials, "--workers", workers, "--epochs", epochs, "--pruner", "none")
        agent = self.launch(objective, *size, *arguments)
        self.wait_for_epoch(at, trials=workers)
        return agent

    def hurry(self) -> None:
        """Let epochs take no time from now on."""
        (self.folder / "hurry").touch()

    def allow(self, epoch: int) -> None:
        """Let this epoch, which TEST_HOLD holds, end."""
        (self.folder / f"allowed-{epoch}").touch()

    def finish(self, trials: int, epochs: int, *arguments: object) -> Completed:
        """Launch study `s` again, faster, to its end, and check its records."""
        self.set(TEST_EPOCH_SECONDS=0, TEST_HOLD="")
        ended = self.hpo("launch", "--study", "s", *arguments).clean()
        self.check_records(trials, epochs)
        return ended

    def rows(self, sql: str, **parameters: Any) -> list[Row[Any]]:
        """Return the rows of a statement."""
        with self._engine.connect() as connection:
            result = connection.execute(text(sql), parameters)
            return list(result) if result.returns_rows else []

    def value(self, sql: str, **parameters: Any) -> Any:
        """Return the first column of a statement's first row; None without rows."""
        rows = self.rows(sql, **parameters)
        return rows[0][0] if rows else None

    def outcomes(self) -> list[str]:
        """Return the outcomes of all attempts, in the order in which they began."""
        return [row.outcome for row in self.rows("SELECT outcome FROM hpo.attempts ORDER BY attempt_id")]

    def study(self, name: str = "s") -> optuna.Study:
        """Open the study with Optuna alone."""
        storage = RDBStorage(self.url, engine_kwargs={"poolclass": NullPool})
        return optuna.load_study(study_name=name, storage=storage)

    def wait_for(self, condition: Callable[[], T], timeout: float = 120.0) -> T:
        """Return the first true value of `condition`."""
        began_at = time.monotonic()
        while not (value := condition()):
            waited = time.monotonic() - began_at
            if waited > timeout:
                shown = "\n".join(running.output() for running in self._started)
                raise AssertionError(f"not true after {timeout} s; printed so far:\n{shown}")
            # Rarely where it takes long: each question costs the machine a millisecond.
            time.sleep(min(max(0.03, waited / 20), 0.1))
        return value

    def wait_for_epoch(self, epoch: int, trials: int = 1, timeout: float = 120.0) -> None:
        """Wait until that many trials have finished that epoch."""
        self.wait_for(
            lambda: self.value("SELECT count(*) FROM hpo.epochs WHERE epoch = :e", e=epoch) >= trials,
            timeout,
        )

    def trainers(self) -> dict[int, int]:
        """Return the attempts of running trainers by process id."""
        rows = self.rows(
            "SELECT pid, attempt_id FROM hpo.attempts WHERE ended_at IS NULL AND pid IS NOT NULL"
        )
        return {row.pid: row.attempt_id for row in rows}

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of this service."""
        found = []
        for pid in _marked(self.environment[MARK]):
            with suppress(psutil.Error):
                found.append(psutil.Process(pid))
        return found

    def runs(self, text: str) -> bool:
        """Whether a living process of this service has `text` in its command line."""
        for process in self.processes():
            # The process may have ended meanwhile.
            with suppress(psutil.Error):
                if text in " ".join(process.cmdline()):
                    return True
        return False

    def check_records(self, trials: int, epochs: int, study: str = "s") -> None:
        """Assert that budget, leases, epochs and Optuna's trials are consistent.

        `epochs` is the length of a complete trial.
        """
        finished = self.value(
            "SELECT count(*) FROM hpo.trials JOIN hpo.studies USING (study_id) WHERE name = :n"
            " AND outcome IN ('complete', 'pruned', 'diverged', 'oom', 'infeasible')",
            n=study,
        )
        assert finished == trials
        assert self.rows("SELECT * FROM hpo.attempts WHERE ended_at IS NULL") == [], "an open lease"
        assert self.rows("SELECT * FROM hpo.trials WHERE outcome IS NULL") == [], "an open trial"
        assert self.rows("SELECT * FROM hpo.trials WHERE NOT told_optuna AND trial_id IS NOT NULL") == []
        ordinals = [row.ordinal for row in self.rows("SELECT ordinal FROM hpo.trials ORDER BY ordinal")]
        assert ordinals == list(range(len(ordinals)))
        known = {trial.number: trial for trial in self.study(study).get_trials()}
        assert all(trial.state.is_finished() for trial in known.values())
        for trial in self.rows("SELECT reservation_id, number, outcome, value, epochs FROM hpo.trials"):
            rows = self.rows(
                "SELECT * FROM hpo.epochs WHERE reservation_id = :t ORDER BY epoch", t=trial.reservation_id
            )
            assert [row.epoch for row in rows] == list(range(1, trial.epochs + 1)), (
                "an epoch skipped or twice"
            )
            for row in rows:
                # The objective's running sum: every epoch was trained once, across all attempts.
                assert row.metrics.get("total", _sum_to(row.epoch)) == _sum_to(row.epoch)
            recorded = [row.epoch for row in rows]
            reported = [] if trial.number is None else sorted(known[trial.number].intermediate_values)
            if trial.outcome == "lost":
                # An epoch is recorded before it is reported to Optuna, and a dead agent's last epoch may never be.
                recorded = recorded[: len(reported)]
            assert reported == recorded, trial
            if trial.outcome == "complete":
                assert trial.epochs == epochs
                assert known[trial.number].value == trial.value

    def close(self) -> list[str]:
        """Kill remaining commands; returns the processes that outlived their agent."""
        for running in self._started:
            running.kill()
        with suppress(AssertionError):
            self.wait_for(lambda: not self.processes(), 10.0)
        survivors = []
        for process in self.processes():
            with suppress(psutil.Error):
                survivors.append(f"{process.pid}: {' '.join(process.cmdline())}")
                process.kill()
        self._engine.dispose()
        return survivors


def _marked(mark: str) -> Iterator[int]:
    """Return the processes with a mark. Those that have ended have no environment; psutil takes five times as long."""
    text = f"{MARK}={mark}\0".encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - without a path for each
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:  # noqa: PTH123
            if text in environment.read():
                yield int(name)


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an interpreter reads when it starts, except those that a forked command obeys."""
    names = (name for name in environment if name.startswith("PYTHON") and name not in OBEYED)
    return {name: environment[name] for name in names}


def _sum_to(epoch: int) -> int:
    return epoch * (epoch + 1) // 2
