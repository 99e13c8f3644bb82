"""The template that is started before its study is known: taken by a pool that loads the same, else ended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

import pytest

from hpo.search.space_overrides import Narrowing
from hpo.trainer.template import early as early_template
from hpo.trainer.template import interpreter
from hpo.trainer.template.early import EarlyTemplate
from hpo.trainer.template.messages import Load
from hpo.trainer.template.process import TemplateProcess
from objectives.base import DataOptions

LOAD = Load("digits-cnn", DataOptions(), False, space=Narrowing(("dropout=0.2",)))


@dataclass
class Started:
    """An interpreter that was started, with its end of the pipe."""

    connection: Connection
    pid: int
    killed: bool = False

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002 - the signature of Popen
        return -9

    def received(self) -> list[Load]:
        found = []
        while self.connection.poll(0):
            try:
                found.append(self.connection.recv())
            except EOFError:
                break
        return found


@dataclass
class Host:
    """Records the interpreters that are started."""

    started: list[Started] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def start(self, descriptors: tuple[int, int], _output: BinaryIO) -> Started:
        self.started.append(Started(Connection(os.dup(descriptors[0])), pid=1_000_000 + len(self.started)))
        return self.started[-1]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(interpreter, "start_interpreter", host.start)
    monkeypatch.setattr(early_template, "kill_group", host.groups.append)
    return host


@pytest.mark.parametrize("announced", [True, False])
def test_pool_takes_the_early_template_that_loads_the_same(
    host: Host, tmp_path: Path, announced: bool
) -> None:
    with EarlyTemplate(tmp_path / "log") as early:
        if announced:
            early.load(LOAD)
        taken = early.start(replace(LOAD, space=Narrowing(("dropout=0.2",))), tmp_path / "log", -1)
        assert isinstance(taken, TemplateProcess)
    (started,) = host.started
    assert started.received() == [LOAD]
    assert not started.killed
    assert (tmp_path / "log").exists()


def test_early_template_that_loads_something_else_is_ended_and_another_started(
    host: Host, tmp_path: Path
) -> None:
    other = replace(LOAD, data=DataOptions(limit=500))
    guard, written = os.pipe()
    with EarlyTemplate(tmp_path / "log") as early:
        early.load(LOAD)
        early.start(other, tmp_path / "log", guard)
        # One that replaces it is not early.
        early.start(other, tmp_path / "log", guard)
    first, *later = host.started
    assert (first.killed, host.groups) == (True, [first.pid])
    assert [(one.received(), one.killed) for one in later] == [([other], False)] * 2
    for descriptor in (guard, written):
        os.close(descriptor)


def test_early_template_that_no_pool_takes_leaves_nothing_behind(host: Host, tmp_path: Path) -> None:
    with EarlyTemplate(tmp_path / "log") as early:
        early.load(LOAD)
    (started,) = host.started
    assert started.killed
    assert host.groups == [started.pid]
    assert not (tmp_path / "log").exists()
