"""The Slurm example, run by bash with stand-ins for `hpo` and `scontrol`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.deployment.files import SBATCH

TEXT = SBATCH.read_text()
DIRECTIVES = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", TEXT, re.MULTILINE))

ENVIRONMENT = {
    "HPO_STORAGE": "postgresql://h/d",
    "HPO_STUDY": "s",
    "SLURM_JOB_ID": "9",
    "SLURM_ARRAY_JOB_ID": "7",
    "SLURM_ARRAY_TASK_ID": "3",
}

Begin = Callable[..., subprocess.Popen[str]]

AGENT = """#!/usr/bin/env bash
echo "$@" > called
echo "$HPO_HOME" > home
trap 'echo told >> called; exit {code}' TERM
echo ready >> called
{work}
"""


def test_the_directives() -> None:
    lines = TEXT.splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(directives) < first, "Slurm reads no directive after the first command"
    assert len(directives) == len(DIRECTIVES)
    assert re.fullmatch(r"\d+-\d+", DIRECTIVES["array"])
    assert re.fullmatch(r"\d\d:\d\d:\d\d", DIRECTIVES["time"])
    assert re.fullmatch(r"\d+[MG]", DIRECTIVES["mem"])
    assert "%A" in DIRECTIVES["output"]
    assert "%a" in DIRECTIVES["output"]
    assert "requeue" in DIRECTIVES
    ahead = re.fullmatch(r"B:USR1@(\d+)", DIRECTIVES["signal"])
    assert ahead is not None
    # SIGTERM takes an agent at most 10 s; Slurm may send it up to a minute early, never late.
    assert int(ahead[1]) >= 60
    subprocess.run(["bash", "-n", SBATCH], check=True)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start the script; its remaining processes are killed at the end of the test."""
    tasks: list[subprocess.Popen[str]] = []

    def start(work: str, code: int = 130, script: Path = SBATCH) -> subprocess.Popen[str]:
        tasks.append(_begin(tmp_path, work, code, script))
        return tasks[-1]

    yield start
    for task in tasks:
        with suppress(ProcessLookupError):
            os.killpg(task.pid, signal.SIGKILL)
        task.wait()
        assert task.stderr is not None
        task.stderr.close()


def _begin(folder: Path, work: str, code: int, script: Path) -> subprocess.Popen[str]:
    """The script as a task of an array, with an agent that does `work`."""
    for name, text in (
        ("hpo", AGENT.format(code=code, work=work)),
        ("scontrol", '#!/bin/sh\necho "$@" > requeued\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    return subprocess.Popen(
        ["bash", script],
        cwd=folder,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def await_ready(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not (folder / "called").exists() or "ready" not in (folder / "called").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 1])
def test_job_ends_as_its_agent_does(tmp_path: Path, begin: Begin, code: int) -> None:
    task = begin(f"exit {code}")
    assert task.wait(20) == code
    assert task.communicate()[1] == ""
    assert (tmp_path / "called").read_text().splitlines() == ["worker", "ready"]
    home = (tmp_path / "home").read_text().strip()
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/hpo-\w{{10}}/home", home), (
        "a name that nobody can predict"
    )
    assert not list(tmp_path.glob("hpo-*"))
    assert not (tmp_path / "requeued").exists()


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_only_a_task_that_is_out_of_time_asks_to_come_back(
    tmp_path: Path, begin: Begin, number: int, requeued: bool
) -> None:
    """One that is cancelled must not; one that is preempted is brought back by Slurm itself."""
    task = begin("while :; do read -t 1 <> <(:); done")
    await_ready(tmp_path)
    task.send_signal(number)
    assert task.wait(20) == 130
    assert task.communicate()[1] == ""
    assert (tmp_path / "called").read_text().splitlines()[-1] == "told"
    assert (tmp_path / "requeued").exists() is requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 7_3\n"


def test_one_whose_study_finished_meanwhile_is_not(tmp_path: Path, begin: Begin) -> None:
    task = begin("while :; do read -t 1 <> <(:); done", code=0)
    await_ready(tmp_path)
    task.send_signal(signal.SIGUSR1)
    assert task.wait(20) == 0
    assert task.communicate()[1] == ""
    assert not (tmp_path / "requeued").exists()


def test_job_without_a_database_ends_with_a_message() -> None:
    done = subprocess.run(
        ["bash", SBATCH], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "HPO_STORAGE: the URL of a PostgreSQL server" in done.stderr


def test_a_signal_before_the_agent_runs_reaches_it(tmp_path: Path, begin: Begin) -> None:
    """Slurm may preempt a task in its first moment: bash itself must not die of it, nor the agent live on."""
    script = tmp_path / "task"
    signalled = TEXT.replace("hpo worker &", "kill -USR1 $$\nhpo worker &")
    assert signalled != TEXT
    script.write_text(signalled)
    task = begin("sleep 10 & wait", script=script)
    # The signal came before or after the agent's handler was installed.
    assert task.wait(20) in (127, 130, 143)
    assert (tmp_path / "requeued").read_text() == "requeue 7_3\n"
