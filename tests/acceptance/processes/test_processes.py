"""Child processes of trainers end with them, and a dead trainer is detected while its pipe is open."""

from __future__ import annotations

import gzip
import os
import signal
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.process.identity import is_running
from hpo.trainer.messages import Epoch, Finished
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template import current as current_template
from hpo.trainer.template.interpreter import Interpreter
from hpo.trainer.template.messages import Load, Ready
from hpo.trainer.template.process import TemplateProcess
from hpo.trainer.testing import start_message
from objectives.base import DataOptions
from objectives.device import Device
from tests.acceptance.service import OBJECTIVES, SOON, Running, Service


def launch(service: Service, objective: str, *more: object, epochs: int = 20) -> Running:
    """Run one trial on one worker."""
    service.set(TEST_EPOCH_SECONDS=0.4, TEST_CHILDREN=service.folder / "children")
    return service.launch(
        objective, "--workers", 1, "--trials", 1, "--epochs", epochs, "--pruner", "none", *more
    )


def living(service: Service) -> set[int]:
    """Return the running processes of this service."""
    return {process.pid for process in service.processes()}


def children(service: Service) -> set[int]:
    """Return the child processes of trainers so far."""
    return {int(line) for line in (service.folder / "children").read_text().split()}


def test_child_processes_end_with_their_trial(service: Service) -> None:
    agent = launch(service, "Parent", "--max-lost", 1)
    service.wait_for_epoch(1)
    assert children(service) <= living(service)
    service.hurry()
    agent.wait().clean()
    service.wait_for(lambda: not children(service) & living(service))
    service.check_records(1, epochs=20)


@pytest.mark.parametrize("without_template", [False, True])
def test_killed_trainer_is_noticed_while_its_child_holds_the_pipe(
    service: Service, without_template: bool
) -> None:
    agent = launch(service, "Parent")
    service.wait_for_epoch(1)
    if without_template:
        template = agent.template.pid
        os.kill(template, signal.SIGKILL)
        service.wait_for(lambda: template not in living(service))
    first = children(service)
    ((pid, attempt),) = service.trainers().items()
    os.kill(pid, signal.SIGKILL)
    service.wait_for(
        lambda: service.value("SELECT outcome FROM hpo.attempts WHERE attempt_id = :a", a=attempt) == "lost",
    )
    service.wait_for(lambda: not first & living(service))
    service.hurry()
    assert agent.wait().code == 0
    service.check_records(1, epochs=20)


@pytest.mark.parametrize("objective", ["Parent", "Littering", "Stubborn"])
def test_processes_end_with_killed_agent(service: Service, objective: str) -> None:
    """Child processes of trainers and of the template, a trainer that holds the GIL, and one that is stopped."""
    agent = launch(service, objective)
    service.wait_for_epoch(2)
    service.wait_for((service.folder / "children").exists)
    for process in agent.template.children():
        process.suspend()
    agent.kill()
    service.wait_for(lambda: not living(service))


@pytest.mark.parametrize("loading", [False, True])
def test_processes_that_loading_starts_end_although_the_guard_of_the_agent_closes_later(
    service: Service, loading: bool
) -> None:
    """A killed agent's pipes close one after another, and its template may end in between."""
    (service.folder / "mine.py").write_text(
        "import subprocess, time\n"
        "from pathlib import Path\n"
        "from optuna.distributions import FloatDistribution\n"
        "from objectives.base import Objective\n"
        "class Mine(Objective):\n"
        "    metric = 'loss'\n"
        "    space = {'x': FloatDistribution(0.0, 1.0)}\n"
        "    def train(self, params, run):\n"
        "        pass\n"
        "    def prepare(self, data, final):\n"
        "        child = subprocess.Popen(['sleep', '600'])\n"
        f"        Path({str(service.folder / 'new')!r}).write_text(str(child.pid))\n"
        f"        Path({str(service.folder / 'new')!r}).rename({str(service.folder / 'child')!r})\n"
        f"        time.sleep({600 if loading else 0})\n"
    )
    guard, held = os.pipe()
    interpreter = Interpreter(service.folder / "log", guard)
    template = TemplateProcess(interpreter)
    template.load(Load(f"{service.folder / 'mine.py'}:Mine", DataOptions(), final=False))
    service.wait_for((service.folder / "child").exists)
    child = psutil.Process(int((service.folder / "child").read_text()))
    assert child.is_running()
    if not loading:
        service.wait_for(lambda: template.connection.poll() and Ready in map(type, template.receive()))
    template.connection.close()
    interpreter.process.wait(SOON)
    service.wait_for(lambda: not is_running(child.pid))
    for descriptor in (guard, held):
        os.close(descriptor)


def test_unresponsive_template_is_replaced(service: Service) -> None:
    agent = service.begin("Counted", "--hung-after", "4s", trials=2, epochs=5, epoch_seconds=1.0, at=1)
    stuck = agent.template
    stuck.send_signal(signal.SIGSTOP)
    service.hurry()
    ended = agent.wait().clean()
    assert "its template is replaced" in ended.out
    assert not psutil.pid_exists(stuck.pid)
    service.check_records(2, epochs=5)
    outcomes = service.outcomes()
    assert outcomes == ["complete", "released", "complete"]
    assert service.value("SELECT sum(lost) FROM hpo.trials") == 0


def test_child_processes_that_ignore_sigterm_end(service: Service) -> None:
    service.set(TEST_CHILDREN=service.folder / "children", TEST_EPOCH_SECONDS=0.2)
    agent = service.launch("Littering", "--workers", 1, "--trials", 4, "--epochs", 20, "--pruner", "none")
    service.wait_for(lambda: service.value("SELECT count(*) FROM hpo.trials WHERE outcome IS NOT NULL") >= 1)
    first = {int(line) for line in (service.folder / "children").read_text().split()[1:2]}
    service.wait_for(lambda: not first & living(service))
    assert agent.alive
    agent.send_signal(signal.SIGTERM)
    assert agent.wait().code == 130
    service.wait_for(lambda: not living(service))


def test_failed_fork_costs_no_attempt(service: Service) -> None:
    agent = launch(service, "Crowded", "--max-lost", 1, epochs=3)
    ended = agent.wait().clean()
    assert ended.out.count("Resource temporarily unavailable") == 2
    outcomes = service.outcomes()
    assert outcomes == ["released", "released", "complete"]
    service.check_records(1, epochs=3)


def test_objective_that_loads_too_slowly_fails_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_template, "LEAST_LOADING_SECONDS", 0.0)
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    load = Load(f"{slow}:Slow", DataOptions(), final=False)
    with (
        TrainerPool(load, [Device()], tmp_path / "template.log") as pool,
        pytest.raises(ObjectiveBrokenError, match=r"not loaded within 0 s: see .*template\.log"),
    ):
        pool.describe(lambda: pool.check_loading(0.3))
    # Its output is kept.
    assert (tmp_path / "template.log").exists()


def test_killed_idle_templates_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel kills them when memory runs out; each replacement loads and forks like the first template."""
    monkeypatch.setattr(current_template, "MAX_TEMPLATE_DEATHS", 1)
    files = {"checkpoints": str(tmp_path / "trial"), "log": str(tmp_path / "log")}
    start = start_message(params={"x": 1.0, "letter": "a"}, epochs=1, **files)
    until = time.monotonic() + 60.0
    load = Load(f"{OBJECTIVES}:Counted", DataOptions(), final=False)
    with TrainerPool(load, [Device()], tmp_path / "template.log") as pool:

        def wait_until_ready() -> None:
            while not pool.ready:
                assert pool.wait(0.1) == []
                assert time.monotonic() < until

        killed = set()
        for _ in range(2):
            wait_until_ready()
            children = psutil.Process().children()
            (template,) = (
                child for child in children if "hpo.trainer.template.fork_server" in child.cmdline()
            )
            killed.add(template.pid)
            template.kill()
            while pool.ready:
                assert pool.wait(0.1) == []
        wait_until_ready()
        pool.start(0, start)
        events: list[object] = []
        while not any(isinstance(event, Finished) for event in events):
            events += [event for _, event in pool.wait(0.1)]
            assert time.monotonic() < until
    assert events[-1] == Finished(Outcome.COMPLETE)
    assert len(killed) == 2


ENDING = """
import atexit, gzip, tempfile, threading, time, zipfile
from pathlib import Path
from optuna.distributions import FloatDistribution
from hpo.trainer.ends import ending
from objectives.base import Objective

FOLDER = Path({folder!r})
ending.END_SECONDS = {seconds}

def write(name):
    with (FOLDER / name).open("a") as file:
        file.write("1")

class Ending(Objective):
    space = {{"x": FloatDistribution(0.0, 1.0)}}

    def prepare(self, options, final):
        atexit.register(write, "template")
        self.shared = (FOLDER / "shared").open("w")
        self.shared.write("p")
        self.kept = tempfile.TemporaryDirectory(dir=FOLDER, prefix="kept")

    def train(self, params, run):
        self.curve = (FOLDER / "curve").open("a")
        self.packed = gzip.open(FOLDER / "packed.gz", "wt")
        self.archive = zipfile.ZipFile(FOLDER / "zip", "w")
        self.archive.writestr("a", "1")
        self.scratch = tempfile.TemporaryDirectory(dir=FOLDER, prefix="scratch")
        atexit.register(write, "trainer")
        atexit.register(lambda: 1 / 0)
        for epoch in run.epochs():
            for file in (self.shared, self.curve, self.packed):
                file.write("1")
            run.report(loss=1.0)
        threading.Thread(target=self.late).start()

    def late(self):
        time.sleep({late})
        write("late")
"""


def end_of_trial(folder: Path, seconds: float, late: float) -> str:
    """Train one epoch of `Ending` and return the trial's log."""
    path = folder / "ending.py"
    path.write_text(ENDING.format(folder=str(folder), seconds=seconds, late=late))
    until = time.monotonic() + 60.0
    load = Load(f"{path}:Ending", DataOptions(), final=False)
    with TrainerPool(load, [Device()], folder / "template.log") as pool:
        while not pool.ready:
            assert pool.wait(0.1) == []
            assert time.monotonic() < until
        pool.start(0, start_message(epochs=1, checkpoints=str(folder / "trial"), log=str(folder / "log")))
        events = []
        while pool.busy:
            events += [event for _, event in pool.wait(0.1)]
            assert time.monotonic() < until
        assert len([entry for entry in folder.iterdir() if entry.name.startswith("kept")]) == 1
    assert events[-1] == Finished(Outcome.COMPLETE)
    assert (folder / "template").read_text() == "1", "exit handlers of the template run in it alone"
    return (folder / "log").read_text()


def test_trainer_ends_like_a_process_of_its_own(tmp_path: Path) -> None:
    log = end_of_trial(tmp_path, seconds=30.0, late=0.3)
    assert "ZeroDivisionError" in log
    assert [(tmp_path / name).read_text() for name in ("late", "trainer", "curve", "shared")] == [
        "1",
        "1",
        "1",
        "p1",
    ]
    assert gzip.decompress((tmp_path / "packed.gz").read_bytes()) == b"1"
    assert zipfile.ZipFile(tmp_path / "zip").read("a") == b"1"
    assert not list(tmp_path.glob("scratch*"))


def test_trainer_that_does_not_end_is_ended_after_a_while(tmp_path: Path) -> None:
    log = end_of_trial(tmp_path, seconds=0.2, late=600.0)
    assert "ends although its threads or exit handlers have not" in log
    assert not (tmp_path / "late").exists()


POOLED = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from optuna.distributions import FloatDistribution
from objectives.base import Objective

{module}

class Pooled(Objective):
    space = {{"x": FloatDistribution(0.0, 1.0)}}

    def prepare(self, options, final):
        self.pool = {pool}
        self.images = list(self.pool.map(np.ones, range(4)))
        self.drawn = np.random.random()
        self.noise = {noise}

    def train(self, params, run):
        for _ in run.epochs():
            run.report(loss=sum(image.sum() for image in self.pool.map(np.ones, range(4))), drawn=self.drawn)
"""


@pytest.mark.parametrize(
    ("module", "pool", "noise", "differ"),
    [
        ("", "ThreadPoolExecutor(2)", "np.random.random(9)", False),
        (
            "POOL = ThreadPoolExecutor(2); POOL.submit(abs, 1)",
            "POOL",
            "np.random.default_rng().random(9)",
            True,
        ),
    ],
)
def test_trials_use_threads_that_loading_has_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, module: str, pool: str, noise: str, differ: bool
) -> None:
    path = tmp_path / "pooled.py"
    path.write_text(POOLED.format(module=module, pool=pool, noise=noise))
    load = Load(f"{path}:Pooled", DataOptions(), final=False)
    until = time.monotonic() + 60.0
    with TrainerPool(load, [Device()] * 2, tmp_path / "template.log") as trainers:
        while not trainers.ready:
            assert trainers.wait(0.1) == []
            assert time.monotonic() < until
        for slot in range(2):
            files = {"checkpoints": str(tmp_path / f"trial-{slot}"), "log": str(tmp_path / f"log-{slot}")}
            trainers.start(slot, start_message(epochs=1, **files))
        events = []
        while trainers.busy:
            events += [event for _, event in trainers.wait(0.1)]
            assert time.monotonic() < until
    assert [event.outcome for event in events if isinstance(event, Finished)] == [Outcome.COMPLETE] * 2
    metrics = [event.record.metrics for event in events if isinstance(event, Epoch)]
    assert metrics[0]["loss"] == 6.0
    assert metrics[0] == metrics[1], "all trials must have the same data"
    warning, *others = caplog.messages
    assert "thread" in warning
    assert "each trial loads its data itself" in warning
    assert [text.partition(",")[0] for text in others] == (
        [f"the trials of {path}:Pooled load different data"] if differ else []
    )
