"""The process that logs to a tracker, as its command sees it: scripts stand in for it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hpo.settings import Settings
from hpo.trackers import logging_process
from hpo.trackers.logging_process import LoggingProcesses
from hpo.trackers.target import Target

TASK = {"study_id": 7, "storage": "postgresql://user:secret@host/db"}


class Command:
    """A command that logs to a tracker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(
            home=folder, storage=None, data_dir=folder, results_dir=folder, checkpoints=folder
        )
        self.monkeypatch = monkeypatch

    def start(self, script: str) -> LoggingProcesses:
        command = (sys.executable, "-I", "-c", script)
        self.monkeypatch.setattr(logging_process, "COMMAND", command)
        return LoggingProcesses([Target("mlflow", "uri")], TASK, self.settings)

    @property
    def outputs(self) -> list[Path]:
        return list((self.settings.home / "logs").iterdir())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    logging.getLogger("hpo").propagate = True
    return Command(tmp_path, monkeypatch)


def test_task_goes_through_the_input_and_messages_come_back(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    script = (
        "import json, sys; task = json.loads(sys.stdin.readline()); sys.stdin.read();"
        " print(json.dumps(['warning', f'{task}']), flush=True)"
    )
    processes = command.start(script)
    processes.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages == [str({**TASK, "target": {"kind": "mlflow", "address": "uri"}})]
    assert command.outputs == []


def test_process_that_dies_costs_a_line(command: Command, caplog: pytest.LogCaptureFixture) -> None:
    processes = command.start("import os, sys; print('why', file=sys.stderr, flush=True); os.abort()")
    processes.close()
    (message,) = caplog.messages
    (output,) = command.outputs
    assert message.startswith(f"the process that logs to mlflow has died, see {output}: training continues")
    assert output.read_text() == "why\n"


HANGS = "import os, time; print('[\"warning\", \"' + str(os.getpid()) + '\"]', flush=True); time.sleep(1000)"


def test_process_that_hangs_is_killed(command: Command, caplog: pytest.LogCaptureFixture) -> None:
    processes = command.start(HANGS)
    while not caplog.messages:
        time.sleep(0.01)
    processes.close(seconds=0.1)
    pid, message = caplog.messages
    assert message.startswith("mlflow has not taken everything in time: see ")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_hurried_command_does_not_wait(command: Command, caplog: pytest.LogCaptureFixture) -> None:
    processes = command.start(HANGS)
    while not caplog.messages:
        time.sleep(0.01)
    processes.close(hurried=lambda: True)
    os.kill(int(caplog.messages[0]), signal.SIGKILL)
    processes.close()
