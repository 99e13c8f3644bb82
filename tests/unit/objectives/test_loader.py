"""References to objectives: the three forms, and messages about wrong ones."""

from __future__ import annotations

import os
import py_compile
import re
import sys
import textwrap
from pathlib import Path

import optuna
import pytest

from hpo import user_code
from hpo.errors import ObjectiveBrokenError, UnknownObjectiveError
from objectives import loader
from objectives.base import Objective
from objectives.keras_objective import KerasObjective

SOUND = """
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from objectives.base import Objective

class Quadratic(Objective):
    "A parabola.\\n\\nMore of it."
    metric, direction, epochs = "loss", "minimize", 5
    space = {"x": FloatDistribution(-5.0, 5.0), "n": IntDistribution(1, 9, step=2),
             "kind": CategoricalDistribution(["a", "b"])}
    first = [{"x": 1, "n": 3, "kind": "a"}]

    def train(self, params, run):
        for epoch in run.epochs():
            run.report(loss=(params["x"] - 2) ** 2)
"""


def write(tmp_path: Path, source: str, name: str = "Quadratic") -> str:
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(source))
    return f"{path}:{name}"


@pytest.mark.parametrize("name", loader.names())
def test_every_shipped_objective_loads(name):
    assert loader.is_shipped(name)
    described = loader.describe(name)
    assert described.name == name
    assert described.summary.endswith(".")
    assert described.first
    assert issubclass(loader.load(name), KerasObjective)


def test_file_reference_is_loaded_and_made_absolute(tmp_path, monkeypatch):
    reference = write(tmp_path, SOUND)
    monkeypatch.chdir(tmp_path)
    # Set by a file of the working directory whose name another module has; not to be left to other tests.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert loader.resolve("mine.py:Quadratic") == reference
    described = loader.describe("mine.py:Quadratic")
    assert (described.name, described.summary) == ("mine.py:Quadratic", "A parabola.")
    assert described.dataset is None
    assert loader.load(reference) is loader.load("mine.py:Quadratic")


def test_file_can_import_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("EPOCHS = 7")
    source = SOUND.replace('"minimize", 5', '"minimize", EPOCHS')
    assert loader.describe(write(tmp_path, "from neighbour_of_mine import EPOCHS\n" + source)).epochs == 7


@pytest.fixture
def owners(tmp_path, monkeypatch):
    """Owners of files by name, in place of the real ones."""
    found = {}
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(user_code, "_owner", lambda path: found.get(path.name, os.geteuid()))
    yield found
    tmp_path.chmod(0o755)


def write_modules(folder, name):
    (folder / f"{name}.py").write_text("EPOCHS = 7")
    (folder / f"package_{name}").mkdir(mode=0o755)
    (folder / f"package_{name}" / "__init__.py").write_text("from .part import EPOCHS")
    (folder / f"package_{name}" / "part.py").write_text("EPOCHS = 7")


def test_modules_that_others_have_put_into_a_shared_folder_are_not_imported(tmp_path, owners):
    tmp_path.chmod(0o1777)
    for name in ("my_neighbour_in_tmp", "planted_in_tmp"):
        write_modules(tmp_path, name)
    owners |= {"planted_in_tmp.py": 12345, "package_planted_in_tmp": 12345}
    source = SOUND.replace('"minimize", 5', '"minimize", EPOCHS')
    own = "from my_neighbour_in_tmp import EPOCHS\nfrom package_my_neighbour_in_tmp import EPOCHS\n"
    assert loader.describe(write(tmp_path, own + source)).epochs == 7
    assert str(tmp_path) not in sys.path
    for name in ("planted_in_tmp", "package_planted_in_tmp"):
        (tmp_path / f"{name}_user.py").write_text(f"import {name}\n" + source)
        with pytest.raises(ObjectiveBrokenError, match=f"No module named '{name}'"):
            loader.load(f"{tmp_path}/{name}_user.py:Quadratic")


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777, 0o1777])
def test_file_of_a_colleague_can_import_its_neighbours(tmp_path, owners, mode):
    """A folder of a user of the host that is mounted into a container is such a colleague's."""
    tmp_path.chmod(mode)
    name = f"of_a_colleague_{mode}"
    write_modules(tmp_path, name)
    owners |= {"mine.py": 12345, f"{name}.py": 12345, f"package_{name}": 12345, "__init__.py": 12345}
    source = SOUND.replace('"minimize", 5', '"minimize", EPOCHS')
    own = f"from {name} import EPOCHS\nfrom package_{name} import EPOCHS\n"
    assert loader.describe(write(tmp_path, own + source)).epochs == 7


def test_cached_code_next_to_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "cached.py"
    path.write_text(SOUND.replace('"minimize", 5', '"minimize", 6'))
    cache = Path(py_compile.compile(str(path), doraise=True))
    written = path.stat()
    path.write_text(SOUND)
    # The cache counts as fresh by size and time.
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert cache.exists()
    assert loader.describe(f"{path}:Quadratic").epochs == 5


def test_class_in_an_installed_module_is_loaded():
    reference = "objectives.shipped.digits_cnn:DigitsCNN"
    assert loader.resolve(reference) == reference
    assert loader.load(reference) is loader.load("digits-cnn")
    assert not loader.is_shipped(reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("digit-cnn", "did you mean digits-cnn"),
        ("zzz", "shipped objectives are cifar-cnn"),
        ("", "package.module:Class"),
        ("a b:C", "path/to/file.py:Class"),
        ("missing.py:Class", "there is no file"),
        ("mine.py", "mine.py:MyObjective"),
        ("mine.py:", "cannot be a class name"),
        ("no_such_package.module:Class", "no module 'no_such_package'"),
        ("objectives.no_such:Class", "no module 'objectives.no_such'"),
    ],
)
def test_wrong_reference_is_refused_with_a_hint(tmp_path, monkeypatch, reference, message):
    write(tmp_path, SOUND)
    monkeypatch.chdir(tmp_path)
    # Set by a file of the working directory whose name another module has; not to be left to other tests.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(UnknownObjectiveError, match=message):
        loader.load(reference)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = x / 0\n", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", "mine.py, line 2: SyntaxError: "),
        ("import json\njson.loads('{')\n", "mine.py, line 2: JSONDecodeError: "),
        (
            "import no_such_package\n",
            "mine.py, line 1: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def f():\n    raise RuntimeError('two\\nlines')\n\nf()\n", "line 2: RuntimeError: two lines"),
        (
            "import optuna\noptuna.create_study().optimize(lambda trial: 1.0, n_trials=1)\n",
            "mine.py, line 2: RuntimeError: study.optimize() is called while the file is imported: put it under if"
            ' __name__ == "__main__":',
        ),
        ("import sys\nsys.exit('no data')\n", "line 2: SystemExit: no data: the file ends the process"),
    ],
)
def test_error_in_a_file_names_its_line(tmp_path, source, message):
    with pytest.raises(ObjectiveBrokenError) as caught:
        loader.load(write(tmp_path, source))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_script_gets_no_arguments_while_it_is_imported(tmp_path, monkeypatch):
    arguments = ["hpo", "launch", "--objective", "mine.py:objective"]
    monkeypatch.setattr(sys, "argv", arguments)
    source = """
        import argparse, sys
        parser = argparse.ArgumentParser()
        parser.add_argument("--width", type=int, default=8)
        width, program = parser.parse_args().width, sys.argv[0]
        def objective(trial):
            return width
    """
    reference = write(tmp_path, source, name="objective")
    module = sys.modules[loader.load(reference).function.__module__]
    assert (module.width, module.program) == (8, str(tmp_path / "mine.py"))
    assert sys.argv is arguments
    assert optuna.create_study().optimize(lambda _: 1.0, n_trials=1) is None


def test_file_that_raised_is_read_again(tmp_path):
    with pytest.raises(ObjectiveBrokenError):
        loader.load(write(tmp_path, "1 / 0"))
    assert loader.load(write(tmp_path, SOUND)).epochs == 5


def test_error_in_a_module_names_its_line(tmp_path, monkeypatch):
    (tmp_path / "broken_objective_module.py").write_text("x = 1\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObjectiveBrokenError, match=r"broken_objective_module\.py, line 2: ZeroDivisionError"):
        loader.load("broken_objective_module:Quadratic")


def test_missing_class_lists_the_existing_ones(tmp_path):
    reference = write(tmp_path, SOUND).replace("Quadratic", "Cubic")
    with pytest.raises(
        ObjectiveBrokenError, match=r"no class or function Cubic; objectives in it: Quadratic"
    ):
        loader.load(reference)


@pytest.mark.parametrize("source", ["class Quadratic:\n    pass\n", "Quadratic = 3\n"])
def test_class_that_is_no_objective_is_refused(tmp_path, source):
    with pytest.raises(ObjectiveBrokenError, match=r"subclass of hpo\.Objective"):
        loader.load(write(tmp_path, source))


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("direction = 'up'", "direction must be 'minimize' or 'maximize', not 'up'"),
        ("value = 0.5", "value must be 'last' or 'best', not 0.5"),
        ("epochs = 0", "at least 1, not 0"),
        ("epochs = 2.0", "not 2.0"),
        ("epochs = True", "not True"),
        ("metric = ''", "metric must be"),
        ("space = {}", "space must be"),
        ("space = [1]", "space must be"),
        ("space = {'x': 3}", r"space\['x'\] must be an Optuna distribution, not 3"),
        ("space = {1: FloatDistribution(0, 1)}", "space has 1 where"),
        ("first = [3]", r"first\[0\] must be a dict"),
        ("first = [{'x': 1.0, 'n': 3}]", r"first\[0\] has no value for kind"),
        ("first = [{'x': 1.0, 'n': 3, 'kind': 'a', 'y': 1}]", r"first\[0\] names y, not in space"),
        ("first = [{'x': 9.0, 'n': 3, 'kind': 'a'}]", r"first\[0\]\['x'\] = 9.0 is not in"),
        ("first = [{'x': 1.0, 'n': 2, 'kind': 'a'}]", r"first\[0\]\['n'\] = 2 is not in"),
        ("first = [{'x': 1.0, 'n': 3, 'kind': 'c'}]", r"first\[0\]\['kind'\] = 'c' is not in"),
        ("first = [{'x': 'one', 'n': 3, 'kind': 'a'}]", r"first\[0\]\['x'\] = 'one' is not in"),
        ("train = Objective.train", "does not define train"),
        ("async def train(self, params, run): pass", "train is a generator or coroutine, which nothing runs"),
        ("def train(self, params, run): yield", "train is a generator or coroutine, which nothing runs"),
        ("open_space = 1", "open_space must be True or False, not 1"),
        ("open_space = True", "open_space = True needs space = {} and no first"),
        ("open_space, epochs, first = True, None, []", "open_space = True needs space = {} and no first"),
        ("open_space, space, first, epochs = True, {}, [], 0", "epochs must be a whole number of at least 1"),
    ],
)
def test_invalid_declaration_is_refused(tmp_path, attribute, message):
    source = f"{SOUND}\nclass Wrong(Quadratic):\n    {attribute}\n"
    with pytest.raises(ObjectiveBrokenError, match=message) as caught:
        loader.load(write(tmp_path, source).replace("Quadratic", "Wrong"))
    assert "Wrong in" in str(caught.value)


@pytest.mark.parametrize(("declared", "taken"), [("", True), ("dataset = 'digits'", False)])
def test_keras_objective_without_data_set_takes_images(tmp_path, declared, taken):
    source = KERAS.replace('dataset, metric, space = "digits", "val_auk",', f"{declared}\n    space =")
    assert loader.describe(write(tmp_path, source)).takes_images is taken


def test_keras_objective_with_another_data_set_is_refused(tmp_path):
    source = """
    from optuna.distributions import FloatDistribution
    from objectives.keras_objective import KerasObjective
    class Quadratic(KerasObjective):
        dataset = 7
        space = {"dropout": FloatDistribution(0.0, 0.6)}
        def build(self, params, data): ...
    """
    with pytest.raises(ObjectiveBrokenError, match="dataset must be"):
        loader.load(write(tmp_path, source))


def test_base_classes_are_abstract():
    assert Objective.__abstractmethods__ == {"train"}
    assert KerasObjective.__abstractmethods__ == {"build"}


KERAS = """from optuna.distributions import FloatDistribution
from objectives import KerasObjective
class Quadratic(KerasObjective):
    dataset, metric, space = "digits", "val_auk", {"learning_rate": FloatDistribution(0.001, 0.1)}
    def build(self, params, data):
        return None
"""


@pytest.mark.parametrize("own_loop", [False, True])
def test_metric_that_the_inherited_loop_does_not_report_is_refused(tmp_path, own_loop):
    if own_loop:
        reference = write(tmp_path, KERAS + "    def train(self, params, run):\n        pass\n")
        assert loader.load(reference).metric == "val_auk"
        return
    with pytest.raises(
        ObjectiveBrokenError,
        match=r"metric 'val_auk' is not reported by task 'classes': did you mean val_auc",
    ):
        loader.load(write(tmp_path, KERAS))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('task = "classification"', "task must be one of 'classes', 'labels', 'binary', 'regression'"),
        (
            'task, metric = "regression", "val_accuracy"',
            "metric 'val_accuracy' is not reported by task 'regression'",
        ),
        (
            'metrics = ["aucc"]',
            "metrics names 'aucc', which is not a metric of task 'classes': did you mean auc",
        ),
        ('metrics = ["mae"]', "metrics names 'mae', which is not a metric of task 'classes'"),
        ('metrics = "auc"', "metrics must be a list"),
        ("metrics = [1]", "metrics has 1, which is not a name or a function"),
        ("metrics = [lambda targets, outputs: 0]", "which is not a name or a function with one"),
        ('metrics, metric = [mine], "val_mine"', "direction is missing, because val_mine is your own"),
        ('loss, label_smoothing = "mse", 0.1', "label_smoothing applies to the default loss"),
        ("loss = 3", "loss must be a loss of Keras"),
        ('class_weight = "equal"', "class_weight must be 'balanced'"),
        ('sampling = "even"', "sampling must be 'shuffled' or 'balanced', not 'even'"),
    ],
)
def test_task_that_does_not_fit_is_refused(tmp_path, attributes, message):
    text = KERAS.replace("val_auk", "val_auc").replace(
        "class Quad", "def mine(targets, outputs): ...\nclass Quad"
    )
    with pytest.raises(ObjectiveBrokenError, match=re.escape(message)):
        loader.load(write(tmp_path, f"{text}    {attributes}\n"))


@pytest.mark.parametrize(
    ("attributes", "metric", "direction"),
    [
        ("pass", "val_accuracy", "maximize"),
        ('task = "regression"', "val_loss", "minimize"),
        ('task = "labels"', "val_macro_f1", "maximize"),
        ('metric = "val_log_loss"', "val_log_loss", "minimize"),
        ('task, metric = "regression", "val_r2"', "val_r2", "maximize"),
        ('metric = "loss"', "loss", "minimize"),
        ('metrics, metric, direction = [mine], "val_mine", "minimize"', "val_mine", "minimize"),
    ],
)
def test_metric_and_direction_follow_from_the_task(tmp_path, attributes, metric, direction):
    text = KERAS.replace(', metric, space = "digits", "val_auk",', ', space = "digits",')
    text = text.replace("class Quad", "def mine(targets, outputs): ...\nclass Quad")
    found = loader.load(write(tmp_path, f"{text}    {attributes}\n"))
    assert (found.metric, found.direction) == (metric, direction)
    # A subclass with another task or metric.
    other = type("Other", (found,), {"metric": "val_mine", "metrics": found.metrics})
    assert other.direction == direction
    assert type("Other", (found,), {"metric": "val_loss"}).direction == "minimize"
