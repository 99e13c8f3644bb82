"""The examples of the tutorial on objectives and of their reference run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from objectives import loader, validation
from objectives.base import DataOptions, Objective, Run
from objectives.data_loading import load_data
from objectives.errors import DivergedError
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.tasks.metrics import METRICS
from tests.photos import make_photos

DOCS = Path(__file__).parents[3] / "docs"
TUTORIAL = (DOCS / "tutorial" / "your-own-model.md").read_text(encoding="utf-8")
REFERENCE = (DOCS / "reference" / "objectives.md").read_text(encoding="utf-8")


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    """Every name that the examples define, run from top to bottom in one namespace."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(namespace, "__name__", "docs_objectives")
        for block in code_of(TUTORIAL) + code_of(REFERENCE):
            exec(compile(block, "docs", "exec"), namespace)
    return namespace


def test_every_documented_objective_is_valid(examples):
    found = [
        value
        for value in examples.values()
        if isinstance(value, type)
        and issubclass(value, Objective)
        and value not in (Objective, KerasObjective)
    ]
    assert [objective.__name__ for objective in found] == [
        "Pets",
        "Stripes",
        "Quadratic",
        "Descent",
        "Layered",
    ]
    assert [validation.problem(objective) for objective in found] == [None] * 5


def test_the_keras_example_trains(examples):
    run = LocalRun(total_epochs=3, metric="val_accuracy")
    examples["Pets"]().train(examples["Pets"].first[0], run)
    assert run.history[-1]["val_accuracy"] > 0.6


def test_the_run_by_hand_resumes(examples):
    assert len(examples["run"].history) == 2
    assert len(examples["rest"].history) == 1


def test_the_plain_examples_train():
    namespace: dict[str, Any] = {"__name__": "docs_objectives"}
    for block in code_of(REFERENCE):
        exec(compile(block, "docs", "exec"), namespace)
    quadratic = LocalRun(total_epochs=5, metric="loss")
    namespace["Quadratic"]().train({"x": 2.0}, quadratic)
    assert quadratic.history[-1]["loss"] == pytest.approx(0.2)
    first = LocalRun(total_epochs=5, stop_after=2)
    namespace["Descent"]().train({"step": 0.25}, first)
    second = LocalRun(total_epochs=5, resume=first.checkpoint)
    namespace["Descent"]().train({"step": 0.25}, second)
    assert second.history[-1]["loss"] == pytest.approx((10 / 2**5) ** 2)
    with pytest.raises(DivergedError):
        namespace["Descent"]().train({"step": 2.0}, LocalRun(total_epochs=50))
    layered = LocalRun(total_epochs=1)
    namespace["Layered"]().train(namespace["Layered"].first[0], layered)
    assert layered.history == [{"loss": 0.75}]


def test_every_shipped_objective_is_documented():
    assert [name for name in loader.names() if f"`{name}`" not in REFERENCE] == []


def test_every_member_of_run_is_documented():
    offered = {name for name in vars(Run) if not name.startswith("_")} | set(Run.__annotations__)
    assert sorted(name for name in offered if f"`run.{name}" not in REFERENCE) == []


def test_the_example_of_figures_trains():
    namespace: dict[str, Any] = {"__name__": "docs_figures"}
    for code in code_of((DOCS / "how-to" / "constraints.md").read_text(encoding="utf-8")):
        exec(compile(code, "docs", "exec"), namespace)
    assert [validation.problem(namespace[name]) for name in ("Digits", "Polynomial")] == [None] * 2
    run = LocalRun(3)
    run.figures = ("coefficients",)
    namespace["Polynomial"]().train({"degree": 1}, run)
    assert run.measured == {"coefficients": 2.0}


def test_the_example_of_images_trains_on_a_folder(tmp_path):
    namespace: dict[str, Any] = {"__name__": "docs_images"}
    for code in code_of((DOCS / "how-to" / "images.md").read_text(encoding="utf-8")):
        exec(compile(code, "docs", "exec"), namespace)
    assert validation.problem(namespace["FinePets"]) is None
    photos = make_photos(tmp_path / "photos", 10, side=(8, 12))
    objective = namespace["Pets"]()
    objective.prepare(DataOptions(source=str(photos), cache_dir=str(tmp_path / "cache")), final=False)
    run = LocalRun(1, metric="val_accuracy")
    objective.train({"learning_rate": 0.01}, run)
    assert run.history[-1]["val_accuracy"] >= 0
    assert objective.describe_data().startswith(f"{photos}: 21 training and 3 validation images, digest ")


def test_the_example_of_a_data_function_trains():
    namespace: dict[str, Any] = {"__name__": "docs_functions"}
    (code,) = code_of((DOCS / "how-to" / "data-functions.md").read_text(encoding="utf-8"))
    exec(compile(code, "docs", "exec"), namespace)
    assert validation.problem(namespace["Thumbnails"]) is None
    run = LocalRun(1, metric="val_accuracy")
    namespace["Thumbnails"]().train({"learning_rate": 0.01}, run)
    assert run.history[-1]["val_accuracy"] > 0.4


def test_the_example_of_model_fit_trains():
    namespace: dict[str, Any] = {"__name__": "docs_fit"}
    (code,) = code_of((DOCS / "how-to" / "model-fit.md").read_text(encoding="utf-8"))
    exec(compile(code, "docs", "exec"), namespace)
    run = LocalRun(2, final=True, metric="val_accuracy")
    namespace["Digits"]().train({"units": 32, "rate": 0.01}, run)
    assert run.results["test_accuracy"] > 0.7


def test_the_example_of_own_arrays_is_loaded_and_fits_its_model(tmp_path, monkeypatch):
    page = (DOCS / "how-to" / "own-arrays.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "houses").mkdir()
    namespace: dict[str, Any] = {"__name__": "docs_arrays"}
    for block in code_of(page):
        exec(compile(block, "docs", "exec"), namespace)
    objective = namespace["Houses"]
    assert validation.problem(objective) is None
    options = DataOptions(source=str(tmp_path / "houses"))
    data = load_data(None, None, options, final=False, task=objective.task)
    assert (len(data.x_train), len(data.x_valid), data.output_size) == (720, 80, 1)
    assert objective().build({"units": 16}, data).output_shape == (None, 1)


def test_the_examples_of_tasks_are_valid_and_train():
    namespace: dict[str, Any] = {"__name__": "docs_tasks"}
    for code in code_of((DOCS / "how-to" / "tasks.md").read_text(encoding="utf-8")):
        exec(compile(code, "docs", "exec"), namespace)
    assert [validation.problem(namespace[name]) for name in ("Houses", "Both", "Cheap")] == [None] * 3
    run = LocalRun(3)
    namespace["Houses"]().train(namespace["Houses"].first[0], run)
    assert run.history[-1]["val_mae"] < 40_000
    run = LocalRun(1)
    namespace["Cheap"]().train({"learning_rate": 0.01}, run)
    assert {"val_cost", "val_auc"} <= run.history[0].keys()


def test_every_metric_is_documented():
    page = (DOCS / "how-to" / "tasks.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in page] == []


def test_the_example_of_recipes_is_valid_and_trains():
    namespace: dict[str, Any] = {"__name__": "docs_recipes"}
    (code,) = code_of((DOCS / "how-to" / "recipes.md").read_text(encoding="utf-8"))
    exec(compile(code, "docs", "exec"), namespace)
    objective = namespace["Digits"]
    assert validation.problem(objective) is None
    run = LocalRun(2)
    made = objective()
    made.prepare(DataOptions(limit=300), final=False)
    made.train(objective.first[0], run)
    assert run.history[-1]["val_accuracy"] > 0.2


def test_every_attribute_of_keras_objectives_is_documented():
    names = {name for name in vars(KerasObjective) if not name.startswith("_")}
    attributes = sorted(name for name in names if not callable(getattr(KerasObjective, name)))
    assert [name for name in attributes if f"`{name}`" not in REFERENCE] == []
