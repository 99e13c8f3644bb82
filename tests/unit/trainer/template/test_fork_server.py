"""The template's steps without a process of its own: loading, forking, reaping, ending."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.distributions import FloatDistribution

from hpo.search.space_overrides import narrow_space
from hpo.trainer.template import fork_safety
from hpo.trainer.template import fork_server as template
from hpo.trainer.template.loading import ObjectiveLoader
from hpo.trainer.template.messages import (
    Described,
    Exited,
    Fork,
    Forked,
    Import,
    ImportEnded,
    Load,
    LoadFailed,
    NotForked,
    Preload,
    Ready,
    StudySpace,
)
from hpo.trainer.template.pipe import decode
from objectives.base import DataOptions
from objectives.device import Device
from objectives.spaces.space import Space

OBJECTIVE = """
import concurrent.futures
import threading
import optuna
from objectives.base import Objective

FINISH = threading.Event()

def thread():
    started = threading.Thread(target=FINISH.wait, name="reader", daemon=True)
    started.start()
    return started

{module}

class Mine(Objective):
    metric = "loss"
    space = {{"x": optuna.distributions.FloatDistribution(0.0, 1.0)}}

    def prepare(self, data, final):
        {prepare}

    def train(self, params, run):
        pass
"""


class Groups:
    """Records the calls that end process groups."""

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


def loaded(
    pipe: tuple[Connection, Connection],
    folder: Path,
    prepare: str,
    module: str = "",
    preload: Preload = Preload.ALL,
    space: StudySpace = None,
) -> tuple[ObjectiveLoader | None, list]:
    """Return the objective that the template loads from this body, and the template's messages."""
    ours, theirs = pipe
    path = folder / "mine.py"
    path.write_text(OBJECTIVE.format(prepare=prepare, module=module))
    ours.send(Load(f"{path}:Mine", DataOptions(), final=True, preload=preload, space=space))
    found = template._load(theirs)
    theirs.close()
    messages = []
    while ours.poll():
        try:
            messages.append(decode(ours.recv_bytes()))
        except EOFError:
            break
    return found, messages


def test_loaded_objective_is_described_and_prepared(
    pipe: tuple[Connection, Connection], tmp_path: Path
) -> None:
    found, (described, ready) = loaded(pipe, tmp_path, "self.final = final")
    assert found is not None
    assert found.prepared
    assert found.prepare().final
    assert isinstance(described, Described)
    assert (described.description.metric, described.description.direction) == ("loss", "minimize")
    assert isinstance(ready, Ready)
    assert {"python", "keras"} <= ready.versions.keys()
    assert "data" not in ready.versions


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (None, None),
        (Space({"x": FloatDistribution(0.5, 1.0)}), {"x": FloatDistribution(0.5, 1.0)}),
        (partial(narrow_space, overrides=("x=0..0.5",)), {"x": FloatDistribution(0.0, 0.5)}),
        (partial(narrow_space, overrides=()), {"x": FloatDistribution(0.0, 1.0)}),
        # The agent refuses it.
        (partial(narrow_space, overrides=("y=1",)), None),
    ],
)
def test_objective_is_prepared_for_the_space_of_its_study(
    pipe: tuple[Connection, Connection], tmp_path: Path, space: StudySpace, found: object
) -> None:
    objective, _ = loaded(pipe, tmp_path, "self.seen = self.study_space", space=space)
    assert objective is not None
    assert objective.prepare().seen == found


@pytest.mark.parametrize(
    ("described", "data"),
    [
        ("return 'mine: 3 images'", "mine: 3 images"),
        ("return 'NUL \\0'", "NUL \\x00"),
        ("raise OSError", None),
    ],
)
def test_line_on_the_data_is_reported(
    pipe: tuple[Connection, Connection], tmp_path: Path, described: str, data: str | None
) -> None:
    prepare = f"self.final = final\n\n    def describe_data(self):\n        {described}"
    found, (_, ready) = loaded(pipe, tmp_path, prepare)
    assert found is not None
    assert ready.versions.get("data") == data


@pytest.mark.parametrize(
    ("prepare", "error", "message", "has_traceback"),
    [
        ("raise ValueError('two\\n  lines')", "ObjectiveBrokenError", "ValueError: two lines", True),
        ("raise SystemExit(3)", "ObjectiveBrokenError", "SystemExit: 3", True),
        ("raise KeyboardInterrupt", "ObjectiveBrokenError", "KeyboardInterrupt", True),
        ("raise ValueError('NUL \\0 \\udcff' + 'a' * 10**6)", "ObjectiveBrokenError", "aaa", True),
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
    found, (_, failed) = loaded(pipe, tmp_path, prepare)
    assert found is None
    assert isinstance(failed, LoadFailed)
    assert failed.error == error
    assert failed.message.endswith(message)
    assert bool(failed.traceback) == has_traceback


@pytest.mark.parametrize(
    ("prepare", "module", "preload"),
    [("self.thread = thread()", "", Preload.IMPORTS), ("pass", "THREAD = thread()", Preload.NOTHING)],
)
def test_threads_left_by_loading_make_the_next_template_load_less(
    pipe: tuple[Connection, Connection],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: str,
    module: str,
    preload: Preload,
) -> None:
    monkeypatch.setattr(fork_safety, "SETTLE_SECONDS", 0.0)
    found, (_, refused) = loaded(pipe, tmp_path, prepare, module)
    assert found is None
    assert (refused.threads, refused.preload) == ("1 thread (reader)", preload)


@pytest.mark.parametrize(
    ("prepare", "module", "preload", "described"),
    [
        (
            "with concurrent.futures.ThreadPoolExecutor(2) as pool: list(pool.map(abs, range(9)))",
            "",
            "ALL",
            True,
        ),
        ("raise AssertionError", "", "IMPORTS", True),
        ("raise AssertionError", "raise AssertionError", "NOTHING", False),
    ],
)
def test_template_without_threads_is_ready_with_what_it_was_to_load(
    pipe: tuple[Connection, Connection],
    tmp_path: Path,
    prepare: str,
    module: str,
    preload: str,
    described: bool,
) -> None:
    found, messages = loaded(pipe, tmp_path, prepare, module, Preload[preload])
    assert found is not None
    assert found.prepared == (preload == "ALL")
    assert [type(message) for message in messages] == [Described] * described + [Ready]


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("VALUE = 1", ""),
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='reader', daemon=True).start()",
            "importing learnt_module starts 1 thread (reader)",
        ),
        ("raise SystemExit(3)", "importing learnt_module ahead of them failed: SystemExit: 3"),
    ],
)
def test_template_imports_modules_of_trials_or_ends(
    pipe: tuple[Connection, Connection],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    problem: str,
) -> None:
    monkeypatch.setattr(fork_safety, "SETTLE_SECONDS", 0.0)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "learnt_module.py").write_text(module)
    steps: list[object] = []
    monkeypatch.setattr(os, "_exit", steps.append)
    monkeypatch.setattr(template, "_share", steps.append)
    ours, theirs = pipe
    loaded = ObjectiveLoader(Load("mine", DataOptions(), final=False))
    template._import(theirs, Import(("learnt_module",)), loaded)
    assert decode(ours.recv_bytes()) == ImportEnded(problem)
    assert steps[0] == (1 if problem else loaded)
    sys.modules.pop("learnt_module", None)


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
    loaded = ObjectiveLoader(Load("mine", DataOptions(), final=False))
    template._fork(theirs, Fork(7, Device()), loaded, 0, (0, 0), groups)
    assert decode(ours.recv_bytes()) == (
        NotForked(7, "Resource temporarily unavailable") if full else Forked(7, 4321)
    )
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
    assert [decode(pipe[0].recv_bytes()) for _ in range(2)] == [Exited(11, status), Exited(12, status)]
    order = [call, "waited"] if call == "kill" else ["waited", call]
    assert groups.calls == [(name, pid) for pid in (11, 12) for name in order]


@pytest.mark.parametrize("agent_dies", [True, False])
def test_loading_ends_with_the_agent_alone(
    pipe: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch, agent_dies: bool
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(template, "end_group", ended.set)
    ours, theirs = pipe
    with template._exit_with(theirs):
        # A request before the end of loading is not the agent's end.
        ours.send("request")
        if agent_dies:
            ours.close()
            assert ended.wait(30.0)
    assert ended.is_set() == agent_dies
    assert not any(thread.name == "watcher" for thread in threading.enumerate()), "a fork must be sound"
