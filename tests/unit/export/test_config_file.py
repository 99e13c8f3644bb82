"""Exported configurations are written, read back and run."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import ConfigFileError, UsageError
from hpo.export.config import _DATA, _FIELDS, Config
from hpo.export.config_file import FORMATS, Format, read_config, render
from hpo.search.space import check_params
from objectives.base import DataOptions
from objectives.spaces.choices import identity
from tests.properties import given, st

CONFIG = Config(
    objective="digits-cnn",
    params={"batch_size": 64, "optimizer": "sgd", "learning_rate": 1e-05, "nesterov": True},
    epochs=12,
    seed=2**31,
    metric="val_accuracy",
    direction="maximize",
    study="digits-cnn",
    trial=7,
    value=0.98125,
    data={"limit": None, "validation_fraction": 0.1, "split_seed": 0},
    backend="tensorflow",
    precision="bfloat16",
    device={"cores": 2, "gpu": None},
    versions={"python": "3.11.7", "keras": "3.15.1"},
    created="2026-01-02T03:04:05+00:00",
)
SUFFIX = {"yaml": ".yaml", "json": ".json", "toml": ".toml"}


def write(folder: Path, config: Config, form: Format) -> Path:
    path = folder / f"best{SUFFIX[form]}"
    path.write_text(render(config, form), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", list(SUFFIX))
def test_config_with_raised_epochs_names_the_restarts_of_its_schedule(tmp_path: Path, form: Format) -> None:
    config = replace(CONFIG, restarts=(4, 8))
    assert read_config(write(tmp_path, config, form)).restarts == (4, 8)
    assert "restarts" not in render(CONFIG, form)
    assert "RESTARTS = (4, 8)" in render(config, "python")
    assert "RESTARTS" not in render(CONFIG, "python")


@pytest.mark.parametrize("form", list(SUFFIX))
def test_written_config_is_read_back(tmp_path: Path, form: Format) -> None:
    read = read_config(write(tmp_path, CONFIG, form))
    if form == "toml":
        # TOML has no null: values that are None are left out and read as None again.
        assert read == replace(
            CONFIG, data={"validation_fraction": 0.1, "split_seed": 0}, device={"cores": 2}
        )
    else:
        assert read == CONFIG


def test_parameter_that_is_none_cannot_be_written_as_toml(tmp_path: Path) -> None:
    config = replace(CONFIG, params={**CONFIG.params, "kind": None})
    with pytest.raises(
        UsageError, match="kind is None, which TOML cannot represent: choose yaml, json or python"
    ):
        render(config, "toml")
    assert read_config(write(tmp_path, config, "yaml")).params["kind"] is None
    for value in ([1, None], {"a": [{"b": None}]}):
        with pytest.raises(UsageError, match="kind contains None, which TOML cannot represent"):
            render(replace(CONFIG, params={"kind": value}), "toml")


@pytest.mark.parametrize("form", list(SUFFIX))
def test_file_of_an_earlier_version_lacks_the_environment(tmp_path: Path, form: Format) -> None:
    unknown = replace(CONFIG, backend=None, precision=None, device={}, data={})
    path = write(tmp_path, unknown, form)
    lines = path.read_text().splitlines()
    later = ("backend", "precision", "device", "[device]")
    older = "\n".join(line for line in lines if not line.strip(' "').startswith(later))
    assert len(older.splitlines()) < len(lines)
    path.write_text(older)
    assert read_config(path) == unknown


@pytest.mark.parametrize("form", list(SUFFIX))
def test_value_that_is_not_finite_is_read_back(tmp_path: Path, form: Format) -> None:
    read = read_config(write(tmp_path, replace(CONFIG, value=math.nan, trial=None), form))
    assert read.value is not None
    assert math.isnan(read.value)
    assert read.trial is None


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
) | st.sampled_from(
    ["1e-3", "yes", "null", "<<", "1:30", "2020-01-01", "\x85", "a\u2028b", "\ufeff", "\r\n", "- a", "#"]
)
scalars = (
    st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=3), max_leaves=4
)


@pytest.mark.parametrize("form", list(SUFFIX))
@given(params=st.dictionaries(texts, values, max_size=4))
def test_any_parameters_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, form: Format, params: dict
) -> None:
    path = write(tmp_path_factory.mktemp("c"), replace(CONFIG, params=params, data={}), form)
    assert identity(read_config(path).params) == identity(params)


def test_tuples_and_numbers_as_keys_are_read_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "objective: o\nepochs: 1\nseed: 1\nmetric: m\ndirection: minimize\nparams: {k: {1: 0.5}}\n"
    )
    assert read_config(path).params == {"k": {"1": 0.5}}
    assert read_config(write(tmp_path, replace(CONFIG, params={"k": (3, {1: (2,)})}), "toml")).params == {
        "k": [3, {"1": [2]}]
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("params: {k: 2020-01-01}", "'params' has an object of type date as 'k'"),
        ("params: {k: .nan}", "'params' has not a finite number as 'k'"),
        ("params: {1: a}", "'params' cannot have the name 1"),
        ("params: {k: 1}\nversions: {keras: 3.1}", "'versions' must be texts"),
    ],
)
def test_value_that_no_space_can_have_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"objective: o\nepochs: 1\nseed: 1\nmetric: m\ndirection: minimize\n{line}\n")
    with pytest.raises(ConfigFileError, match=reason):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.yaml", None, "there is no file"),
        ("a.txt", "x", "must end in"),
        ("a.py", "x = 1", "must end in"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.toml", "a = ", "not valid TOML"),
        ("a.yaml", "a: [1", "not valid YAML"),
        ("a.yaml", "", "no keys and values"),
        ("a.json", "[1]", "no keys and values"),
        ("a.yaml", "a: 1", "no 'objective'"),
        ("a.yaml", "objective: 3", "'objective' cannot be 3"),
    ],
)
def test_invalid_file_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigFileError, match=message) as raised:
        read_config(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_binary_file_and_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.yaml").mkdir()
    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(ConfigFileError, match="cannot be read"):
            read_config(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", "many"),
        ("epochs", True),
        ("params", [1]),
        ("seed", 1.5),
        ("direction", "up"),
        ("data", 3),
        ("value", "high"),
        ("backend", 1),
        ("precision", "float16"),
        ("precision", 16),
        ("device", "cores 0-1"),
        ("device", {"cores": 0}),
        ("device", {"cores": True}),
        ("device", {"gpu": 1}),
        ("device", {"tpu": "0"}),
    ],
)
def test_error_names_the_invalid_value(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**CONFIG.to_json(), key: value}))
    with pytest.raises(ConfigFileError, match=f"'{key}' cannot|'{key}' has an unknown"):
        read_config(path)


@pytest.mark.parametrize(
    "data",
    [
        {"foo": 1},
        {"limit": "abc"},
        {"limit": 0},
        {"limit": True},
        {"folds": 1},
        {"validation_fraction": 1.0},
        {"validation_fraction": math.nan},
        {"validation_fraction": "0.1"},
        {"split_seed": 1.5},
        {"split_seed": None},
        {"data_dir": "/data"},
    ],
)
def test_invalid_data_options_are_refused(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(render(replace(CONFIG, data=data), "yaml"))
    with pytest.raises(ConfigFileError, match="'data'") as raised:
        read_config(path)
    assert repr(next(iter(data))) in str(raised.value)


@pytest.mark.parametrize(
    ("version", "message"), [(99, "newer hpo-service: upgrade"), ("x", "'hpo_config'"), (0, "'hpo_config'")]
)
def test_file_of_another_version_is_refused(tmp_path: Path, version: object, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**CONFIG.to_json(), "hpo_config": version}))
    with pytest.raises(ConfigFileError, match=message):
        read_config(path)


def test_every_data_option_has_a_check() -> None:
    assert set(_DATA) == {option.name for option in fields(DataOptions)} - {"data_dir", "cache_dir"}
    assert set(_FIELDS) == {field.name for field in fields(Config)}


SPACE = {
    "batch_size": IntDistribution(16, 256),
    "dropout": FloatDistribution(0.0, 0.5),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
    "width": CategoricalDistribution([1, 2]),
    "depth": IntDistribution(2, 10, step=2),
}
PARAMS = {"batch_size": 64, "dropout": 0.5, "optimizer": "sgd", "width": 1, "depth": 4}


def test_params_in_the_space_are_accepted() -> None:
    check_params(PARAMS, SPACE, Path("a.yaml"))
    check_params({**PARAMS, "dropout": 0}, SPACE, Path("a.yaml"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dropout": 5}, "'dropout' is 5, but must be 0 to 0.5"),
        ({"dropout": math.nan}, "'dropout' is nan"),
        ({"dropout": "0.1"}, "'dropout' is '0.1'"),
        ({"dropout": True}, "'dropout' is True"),
        ({"batch_size": -4}, "'batch_size' is -4, but must be 16 to 256"),
        ({"batch_size": 64.5}, "'batch_size' is 64.5"),
        ({"optimizer": "lion"}, "'optimizer' is 'lion', but must be one of sgd, adam"),
        ({"optimizer": ["sgd"]}, "'optimizer' is"),
        ({"width": True}, "'width' is True"),
        ({"depth": 3}, "'depth' is 3, but must be 2 to 10"),
        ({"droput": 0.1}, "no parameter 'droput'"),
    ],
)
def test_params_outside_the_space_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(ConfigFileError) as raised:
        check_params({**PARAMS, **changed}, SPACE, Path("a.yaml"))
    assert message in str(raised.value)
    assert "a.yaml" in str(raised.value)


def test_missing_parameter_is_refused() -> None:
    with pytest.raises(ConfigFileError, match="lacks parameter 'batch_size'"):
        check_params({}, SPACE, Path("a.yaml"))


def test_data_folder_is_not_exported() -> None:
    for form in FORMATS:
        assert "data_dir:" not in render(CONFIG, form)


def test_script_trains(tmp_path: Path) -> None:
    for name in ("hpo", "keras", "math", "objectives", "random", "storage"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file next to the script was imported')")
    (tmp_path / "mine.py").write_text(
        "from hpo import Objective\n"
        "from optuna.distributions import FloatDistribution\n\n"
        "class Quadratic(Objective):\n"
        "    space = {'x': FloatDistribution(-5.0, 5.0)}\n\n"
        "    def train(self, params, run):\n"
        "        for epoch in run.epochs():\n"
        "            run.report(loss=(params['x'] - 2) ** 2 + 1 / epoch)\n"
    )
    config = replace(
        CONFIG,
        objective=f"{tmp_path}/mine.py:Quadratic",
        params={"x": 3.0},
        epochs=2,
        metric="loss",
        direction="minimize",
        study='odd "name" {x} \\',
        device={"cores": 1000, "gpu": "0 (68 GiB)"},
        versions={"keras": "3.0.0"},
    )
    script = tmp_path / "best.py"
    script.write_text(render(config, "python"))
    assert not re.search("^(from|import) (objectives|storage)", script.read_text(), re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": ""},
    )
    lines = done.stdout.splitlines()
    assert lines[1:] == ["epoch 1/2 loss=2", "epoch 2/2 loss=1.5", "loss = 1.5, in the trial 0.98125"]
    assert done.stderr.startswith("trained with 1000 cores (here ")
    assert ", gpu 0 (68 GiB) (here none), keras 3.0.0 (here " in done.stderr
    assert done.stderr.count("\n") == 1


def test_script_reads_data_from_the_folder_of_hpo(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from hpo.errors import DataMissingError\n"
        "from objectives.base import Objective\n"
        "from optuna.distributions import FloatDistribution\n\n"
        "class Mine(Objective):\n"
        "    space = {'x': FloatDistribution(-5.0, 5.0)}\n\n"
        "    def prepare(self, options, final):\n"
        "        level = os.environ['TF_CPP_MIN_LOG_LEVEL']\n"
        "        raise DataMissingError(f'nothing in\\n{options.data_dir} {level}')\n\n"
        "    def train(self, params, run):\n"
        "        pass\n"
    )
    script = tmp_path / "best.py"
    script.write_text(render(replace(CONFIG, objective=f"{tmp_path}/mine.py:Mine"), "python"))
    hidden = ("HPO_DATA_DIR", "TF_CPP_MIN_LOG_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "HPO_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1]) == (
        1,
        f"nothing in {tmp_path}/data 3\n",
    )


def test_script_of_any_config_compiles() -> None:
    for config in (CONFIG, replace(CONFIG, study=None, trial=None, value=math.nan, versions={}, device={})):
        compile(render(config, "python"), "best.py", "exec")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "has an alias"),
        ("a: " + "x" * 2**20, "longer than 1048576 bytes"),
    ],
)
def test_file_that_would_fill_the_memory_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigFileError, match=message):
        read_config(path)
