"""The template's steps without a process of its own: loading, forking, reaping, ending."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo.trainer import template
from hpo.trainer.messages import Described, Exited, Fork, Forked, Load, LoadFailed, NotForked, Ready
from objectives.base import DataOptions, Device, Objective

OBJECTIVE = """
import optuna
from objectives.base import Objective

class Mine(Objective):
    metric = "loss"
    space = {{"x": optuna.distributions.FloatDistribution(0.0, 1.0)}}

    def prepare(self, data, final):
        {prepare}

    def train(self, params, run):
        pass
"""


class Groups:
    """Records what happens to process groups."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __getattr__(self, name: str):
        return lambda pid: self.calls.append((name, pid))


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    """The agent's end and the template's."""
    ours, theirs = Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


def loaded(pipe: tuple[Connection, Connection], folder: Path, prepare: str) -> tuple[Objective | None, list]:
    """Return what the template loads from an objective with this body, and its messages."""
    ours, theirs = pipe
    path = folder / "mine.py"
    path.write_text(OBJECTIVE.format(prepare=prepare))
    ours.send(Load(f"{path}:Mine", DataOptions(), final=True))
    objective = template._load(theirs)
    theirs.close()
    messages = []
    while ours.poll():
        try:
            messages.append(ours.recv())
        except EOFError:
            break
    return objective, messages


def test_loaded_objective_is_described_and_prepared(
    pipe: tuple[Connection, Connection], tmp_path: Path
) -> None:
    objective, (described, ready) = loaded(pipe, tmp_path, "self.final = final")
    assert objective is not None
    assert objective.final
    assert isinstance(described, Described)
    assert (described.description.metric, described.description.direction) == ("loss", "minimize")
    assert isinstance(ready, Ready)
    assert {"python", "keras"} <= ready.versions.keys()


@pytest.mark.parametrize(
    ("prepare", "error", "message", "has_traceback"),
    [
        ("raise ValueError('two\\n  lines')", "ObjectiveBrokenError", "ValueError: two lines", True),
        ("raise SystemExit(3)", "ObjectiveBrokenError", "SystemExit: 3", True),
        ("import hpo.errors; raise hpo.errors.DataMissingError('gone')", "DataMissingError", "gone", False),
    ],
)
def test_failure_to_load_is_reported_by_class(
    pipe: tuple[Connection, Connection],
    tmp_path: Path,
    prepare: str,
    error: str,
    message: str,
    has_traceback: bool,
) -> None:
    objective, (_, failed) = loaded(pipe, tmp_path, prepare)
    assert objective is None
    assert isinstance(failed, LoadFailed)
    assert failed.error == error
    assert failed.message.endswith(message)
    assert bool(failed.traceback) == has_traceback


@pytest.mark.parametrize("full", [False, True])
def test_fork_is_answered_and_its_pipe_is_closed_here(
    pipe: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    ours, theirs = pipe
    trainer, trainers_end = Pipe()
    reduction.send_handle(ours, trainers_end.fileno(), os.getpid())
    trainers_end.close()
    groups, led = Groups(), []

    def fork() -> int:
        if full:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return 4321

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "setpgid", lambda *ids: led.append(ids))
    template._fork(theirs, Fork(7, Device()), Objective, 0, (0, 0), groups)
    assert ours.recv() == (NotForked(7, "Resource temporarily unavailable") if full else Forked(7, 4321))
    assert (groups.calls, led) == (([], []) if full else ([("add", 4321)], [(4321, 4321)]))
    with pytest.raises(EOFError):
        trainer.recv()
    trainer.close()


@pytest.mark.parametrize(
    ("code", "value", "wait_status", "call", "status"),
    [
        (os.CLD_EXITED, 0, 0, "terminate", 0),
        (os.CLD_EXITED, 3, 3 << 8, "kill", 3),
        (os.CLD_KILLED, signal.SIGSEGV, int(signal.SIGSEGV), "kill", -signal.SIGSEGV),
    ],
)
def test_exit_is_reported_and_its_process_group_ends(
    pipe: tuple[Connection, Connection],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    value: int,
    wait_status: int,
    call: str,
    status: int,
) -> None:
    """A child process of a trainer that ended normally may clean up; others are killed while the id is theirs."""
    groups = Groups()
    children = [SimpleNamespace(si_code=code, si_status=value, si_pid=pid) for pid in (11, 12)]
    monkeypatch.setattr(os, "waitid", lambda *_: children[0] if children else None)

    def waitpid(pid: int, _: int) -> tuple[int, int]:
        groups.calls.append(("waited", pid))
        return children.pop(0).si_pid, wait_status

    monkeypatch.setattr(os, "waitpid", waitpid)
    template._reap(pipe[1], groups)
    assert [pipe[0].recv() for _ in range(2)] == [Exited(11, status), Exited(12, status)]
    order = [call, "waited"] if call == "kill" else ["waited", call]
    assert groups.calls == [(name, pid) for pid in (11, 12) for name in order]


@pytest.mark.parametrize("agent_dies", [True, False])
def test_loading_ends_with_the_agent_alone(
    pipe: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch, agent_dies: bool
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda _: ended.set())
    ours, theirs = pipe
    with template._exit_with(theirs):
        # A request before the end of loading is not the agent's end.
        ours.send("request")
        if agent_dies:
            ours.close()
            assert ended.wait(30.0)
    assert ended.is_set() == agent_dies
    assert not any(thread.name == "watcher" for thread in threading.enumerate()), "a fork must be sound"
