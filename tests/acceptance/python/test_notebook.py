"""A real notebook searches, is interrupted, continues, and dies."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.service import Service

# Each worker collects this module; one runs its test.
if TYPE_CHECKING:
    import nbformat
    from nbclient import NotebookClient

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "notebook.md"

SLOW = """
import os, time
PAUSE, STEPS = 0.05, 2000

def wait():
    time.sleep(PAUSE)

def slow(trial):
    x = trial.suggest_float("x", -1, 1)
    for step in range(STEPS):
        wait()
        trial.report(x**2 + 1 / (step + 1), step)
    return x**2
"""
LAUNCH = 'study = hpo.launch(slow, study="s", trials=3, workers=2, pruner="none")'
NO_PICTURES = """
from hpo.document import files
files.draw_png = files.draw_gallery = lambda _: b""
"""
"""Drawing them takes most of the time of a report, and other tests look at them."""

FAST = "PAUSE, STEPS = 0, 3"
CLASS = """
class Toy(hpo.Objective):
    metric, direction, epochs = "loss", "minimize", 2
    space = {"x": FloatDistribution(-PAUSE - 5, 5)}

    def train(self, params, run):
        for epoch in run.epochs():
            run.report(loss=self.loss(params["x"], epoch))

    def loss(self, x, epoch):
        return x**2 + 1 / epoch
"""
ERRORS = """
def shown(call):
    try:
        call()
    except hpo.HpoError as error:
        return [cls.__name__ for cls in type(error).__mro__[:2]], str(error)

import threading
lock = threading.Lock()
def locked(trial):
    with lock:
        return 1.0
def broken(trial):
    return undefined
[
    shown(lambda: hpo.launch(locked, study="locked")),
    shown(lambda: hpo.launch(broken, study="broken", trials=2, workers=1)),
    shown(lambda: hpo.launch(Toy, study="s")),
    shown(lambda: hpo.load_study("nowhere")),
]
"""


class Notebook:
    """A notebook whose cells run in a kernel of their own."""

    def __init__(self, client: NotebookClient, pid: int) -> None:
        self._client = client
        self.pid = pid

    def run(self, text: str) -> nbformat.NotebookNode:
        """Run a cell and return it with its outputs."""
        import nbformat

        cells = self._client.nb.cells
        cells.append(nbformat.v4.new_code_cell(text))
        return self._client.execute_cell(cells[-1], len(cells) - 1)

    def value(self, text: str) -> Any:
        """Return the value of a cell, as its text is read."""
        (output,) = (found for found in self.run(text).outputs if found["output_type"] == "execute_result")
        return eval(output["data"]["text/plain"])

    def send(self, number: int) -> None:
        """Send a signal as Jupyter does: to the group of the kernel."""
        os.killpg(self.pid, number)


@contextmanager
def opened(service: Service, folder: Path) -> Iterator[Notebook]:
    """Open an empty notebook for a service."""
    import nbformat
    from nbclient import NotebookClient

    environment = service.environment | {
        name: str(folder / name.lower())
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
    }
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=120, kernel_name="python3")
    with client.setup_kernel(env=environment, cwd=str(service.folder)):
        notebook = Notebook(client, 0)
        notebook.pid = notebook.value("import os; os.getpid()")
        yield notebook


def printed(cell: nbformat.NotebookNode) -> str:
    """Return the lines that a cell printed."""
    return "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")


def shown(cell: nbformat.NotebookNode, kind: str) -> str:
    """Return the output of a cell in a media type."""
    return "".join(output.get("data", {}).get(kind, "") for output in cell.outputs)


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Run an action while the block runs."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_notebook(service: Service, tmp_path: Path) -> None:
    search, use, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with opened(service, tmp_path) as notebook:
        check_example(service, notebook, search, use)
        check_interrupt(service, notebook)
        notebook.run(f"from optuna.distributions import FloatDistribution\n{CLASS}")
        notebook.run('toy = hpo.launch(Toy, study="toy", trials=2, workers=2, params={"x": (0, 1)})')
        assert notebook.value("bool((toy.trials.param_x >= 0).all()), toy.trials.epochs.tolist()") == (
            True,
            [2, 2],
        )
        check_errors(service, notebook)
        check_death(service, notebook)


def check_example(service: Service, notebook: Notebook, search: str, use: str) -> None:
    """The example of the documentation runs, and shows its progress and figures."""
    cell = notebook.run(search)
    assert "12/12 trials" in shown(cell, "text/plain")
    assert "<pre" in shown(cell, "text/html")
    assert [output["output_type"] for output in cell.outputs].count("display_data") == 1
    assert "best: value" in printed(cell)
    notebook.run(NO_PICTURES)
    assert "2/2 runs" in shown(notebook.run(use), "text/plain")
    assert notebook.value("bool(study.best.value == study.trials.value.min())")
    assert notebook.value("len(study.plot_optimization_history().data[0].y)") == 12
    assert notebook.value("sorted(study.plot_param_importances().data[0].y)") == ["degree", "penalty"]
    assert (service.folder / "best.yaml").read_text().count("degree") == 1
    assert (service.folder / "results" / "fit" / "report.html").exists()
    assert notebook.value('list(hpo.load_study("fit").results().retrains.columns)')[:2] == [
        "trial",
        "test_opened_at",
    ]
    (pickled,) = (service.folder / "home" / "objectives").glob("fit-*/payload-*")
    assert pickled.stat().st_size < 10_000


def check_interrupt(service: Service, notebook: Notebook) -> None:
    """An interrupted search releases its trials, which continue at the next call, with a line on changed code."""

    from nbclient.exceptions import CellExecutionError

    def interrupt() -> None:
        query = "SELECT count(*) FROM hpo.epochs JOIN hpo.trials USING (reservation_id) JOIN hpo.studies"
        service.wait_for(
            lambda: service.value(f"{query} USING (study_id) WHERE name = 's' AND epoch = 2") == 2
        )
        notebook.send(signal.SIGINT)

    notebook.run(SLOW)
    with meanwhile(interrupt), pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        notebook.run(LAUNCH)
    before = {trial.number: trial.params for trial in service.study().trials}
    service.wait_for(lambda: not service.trainers())
    notebook.run(FAST)
    cell = notebook.run(LAUNCH)
    assert "the objective's code has changed since trial 1" in printed(cell)
    assert [trial.params for trial in service.study().trials[:2]] == list(before.values())
    assert notebook.value("list(study.trials.state)") == ["complete"] * 3
    assert "code has changed" not in printed(notebook.run(LAUNCH.replace("trials=3", "trials=4")))


def check_errors(service: Service, notebook: Notebook) -> None:
    """Errors are exceptions with the messages of the command line, and leave nothing behind."""
    locked, broken, other, unknown = notebook.value(ERRORS)
    assert "it uses lock, an object of type lock" in locked[1]
    assert broken[0] == ["ObjectiveFailedError", "HpoError"]
    assert "name 'undefined' is not defined" in broken[1]
    assert other[0] == ["StudyConflictError", "HpoError"]
    assert unknown[0] == ["UnknownStudyError", "UsageError"]
    kept = {path.name.rpartition("-")[0] for path in (service.folder / "home" / "objectives").iterdir()}
    assert kept <= {"fit", "s", "toy", "broken"}


def check_death(service: Service, notebook: Notebook) -> None:
    """A kernel that is killed ends its agents, whose trials are released."""

    from nbclient.exceptions import DeadKernelError

    def kill() -> None:
        service.wait_for(lambda: len(service.trainers()) == 2)
        notebook.send(signal.SIGKILL)

    notebook.run("PAUSE, STEPS = 0.05, 2000")
    with meanwhile(kill), pytest.raises(DeadKernelError):
        notebook.run(LAUNCH.replace("trials=3", "trials=6"))
    service.wait_for(lambda: not service.processes())
    assert service.outcomes()[-2:] == ["released"] * 2
