"""Options of all commands: none was lost, all numbers are bounded, defaults are those of the requests."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import click
import pytest

from hpo.cli.commands.run.launch import launch
from hpo.cli.commands.run.retrain import retrain
from hpo.cli.commands.run.worker import worker
from hpo.cli.main import cli, run
from hpo.cli.types import DURATION, NamedPath, NearestChoice, Number, OutputPath, Quantity
from hpo.options.launch_request import LaunchRequest
from hpo.options.retrain_request import RetrainRequest
from hpo.options.worker_request import WorkRequest
from tests.unit.cli.test_help import ALL, OPTIONS

COMMANDS = {path.removeprefix("hpo "): command for path, command in ALL}
STRING = type(click.STRING)
AGENT = "--gpus --device --precision --hung-after --memory-per-worker --data-dir --storage"
FIRST_RELEASE = {
    "launch": "--study --objective --workers -w --engine --address --cpus-per-worker --gpus-per-worker "
    "--workers-per-agent --trials -n --timeout --epochs --limit --sampler --pruner --seed --param -p "
    f"--max-failed --max-lost --checkpoint-quota --space --no-run {AGENT}",
    "worker": f"--study --slots -w --gpu-share --cores {AGENT}",
    "pause": "--study --storage",
    "resume": "--study --storage",
    "stop": "--study --storage",
    "retrain": f"--study --seeds --top --epochs --limit --config --trial --workers -w {AGENT}",
    "ls": "--json --storage",
    "status": "--study --watch --every --json --storage",
    "trials": "--study --sort --csv --json --storage",
    "best": "--study --json --storage",
    "logs": "--study --trial --follow -f --storage",
    "objectives": "--json",
    "report": "--study --output -o --storage",
    "compare": "--study --output -o --storage",
    "dashboard": "--host --port --allow-changes --storage",
    "export": "--study --format --output -o --trial --storage",
    "data explore": "--data-dir --output -o",
    "data fetch": "--data-dir",
    "data verify": "--data-dir --json",
    "doctor": "--workers -w --gpus --device --data-dir --json --storage",
    "delete": "--study --yes -y --force --storage",
    "init": "--storage",
    "health": "--study --storage",
    "backup": "--study --output -o --storage",
    "restore": "--as --storage",
}


@pytest.mark.parametrize("path", FIRST_RELEASE)
def test_command_accepts_options_of_first_release(path: str) -> None:
    command = COMMANDS[path]
    accepted = {
        name for param in command.params for name in (*param.opts, *getattr(param, "hidden_names", ()))
    }
    assert accepted >= set(FIRST_RELEASE[path].split())


def test_earlier_spelling_is_accepted_and_hidden() -> None:
    # With its settings, because a command keeps the help option names of its first context.
    with click.Context(cli, info_name="hpo", **cli.context_settings) as root:
        shown = worker.make_context("worker", ["--study", "s"], parent=root).get_help()
        assert "--slots" not in shown
        assert "--workers" in shown
        for given in (["--slots", "3"], ["--slots", "3", "--workers", "3"]):
            context = worker.make_context("worker", ["--study", "s", *given], parent=root)
            assert context.params["workers"] == 3


def test_earlier_spelling_that_contradicts_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--slots", "2", "--workers", "3"], ["-w", "3", "--slots", "2"]):
        assert run(["worker", "--study", "s", *given]) == 2
        assert capsys.readouterr().err == (
            "hpo: --workers 3 contradicts --slots 2, its earlier name: use --workers alone"
            " (see hpo worker --help)\n"
        )


SENSELESS = ("x", "many", "-1", "nan", "inf", "1e400", " ")
TYPED = [option for option in OPTIONS if isinstance(option.values[0].type, Number | Quantity | NearestChoice)]


@pytest.mark.parametrize("option", TYPED)
@pytest.mark.parametrize("value", SENSELESS)
def test_senseless_value_is_refused(option: click.Option, value: str) -> None:
    if option.name == "target" and value == "-1":
        assert option.type.convert(value, option, None) == -1.0
        return
    with pytest.raises(click.BadParameter, match=re.escape(f"{value!r} is not ")):
        option.type.convert(value, option, None)


@pytest.mark.parametrize(
    ("path", "option"),
    [
        pytest.param(path, param, id=f"{path} {param.envvar}")
        for path, command in COMMANDS.items()
        for param in command.params
        if isinstance(param, click.Option)
        and param.envvar
        and not isinstance(param.type, STRING | click.Path)
    ],
)
def test_error_of_a_variable_names_it_with_its_value_and_the_allowed_ones(
    path: str, option: click.Option, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(str(option.envvar), "senseless")
    assert run([*path.split(), "--study", "s"] if path != "doctor" else [path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"hpo: Invalid value for {option.envvar}: 'senseless' is not ")
    assert re.search(
        r"a whole number from 1 to \d+|above 0, at most 1|one of .+, |use e\.g\. .+, at most ", line
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_number_has_bounds(option: click.Option) -> None:
    assert option.type not in (click.INT, click.FLOAT)
    if isinstance(option.type, click.IntRange | click.FloatRange):
        assert option.type.min is not None
        assert option.type.max is not None
        for beyond in (option.type.min - 1, option.type.max + 1):
            with pytest.raises(click.BadParameter, match=r"is not a (whole )?number (from|above) "):
                option.type.convert(str(beyond), option, None)


def flat_defaults(request: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(request):
        if is_dataclass(field.default):
            found |= flat_defaults(type(field.default))
        else:
            found[field.name] = field.default
    return found


@pytest.mark.parametrize(
    ("command", "request_type"), [(launch, LaunchRequest), (worker, WorkRequest), (retrain, RetrainRequest)]
)
def test_option_has_default_of_its_field(command: click.Command, request_type: type[Any]) -> None:
    defaults = flat_defaults(request_type)
    params = {param.name: param for param in command.params if param.name in defaults}
    assert defaults.keys() - params.keys() <= {"gpu_share", "cores"}
    for name, param in params.items():
        assert param.required if defaults[name] is MISSING else param.default == defaults[name]


def test_shown_default_is_the_actual_one() -> None:
    (hung_after,) = (param for param in launch.params if param.name == "hung_seconds")
    assert isinstance(hung_after, click.Option)
    assert DURATION.convert(hung_after.show_default, None, None) == hung_after.default


@pytest.mark.parametrize(
    "command", ["status --study", "launch --study x --param", "compare --study x --study"]
)
def test_text_that_is_not_utf8_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "a\udcff"]) == 2
    assert "'a\\udcff' is not UTF-8" in capsys.readouterr().err


def test_no_path_may_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty one would stand for the working directory, as of a shell variable that is not set."""
    paths = [
        param
        for command in COMMANDS.values()
        for param in command.params
        if isinstance(param.type, click.Path)
    ]
    assert paths
    assert {type(param.type) for param in paths} == {NamedPath, OutputPath}
    assert issubclass(OutputPath, NamedPath)
    for arguments in (
        ["launch", "--study", "s", "--objective", "image-cnn", "--data", ""],
        ["data", "explore", ""],
    ):
        assert run(arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "is empty: " in line
