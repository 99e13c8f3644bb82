"""Options of all commands: none was lost, all numbers are bounded, defaults are those of the requests."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import click
import pytest

from hpo.cli.commands.launch import launch
from hpo.cli.commands.retrain import retrain
from hpo.cli.commands.worker import worker
from hpo.cli.options import DURATION
from hpo.options import LaunchRequest, RetrainRequest, WorkRequest
from tests.unit.cli.test_help import ALL, OPTIONS

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
    commands = {path.removeprefix("hpo "): command for path, command in ALL}
    accepted = {name for param in commands[path].params for name in param.opts}
    assert accepted >= set(FIRST_RELEASE[path].split())


def test_earlier_spelling_is_accepted_and_hidden() -> None:
    context = click.Context(worker, info_name="worker")
    assert "--slots" not in worker.get_help(context)
    assert "--workers" in worker.get_help(context)
    context = worker.make_context("worker", ["--study", "s", "--slots", "3"])
    assert context.params["workers"] == 3


@pytest.mark.parametrize("option", OPTIONS)
def test_number_has_upper_bound(option: click.Option) -> None:
    if isinstance(option.type, click.IntRange | click.FloatRange):
        assert option.type.max is not None


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


@pytest.mark.parametrize(("seconds", "text"), [(1800, "30m"), (90, "90s"), (7200, "2h"), (86400, "1d")])
def test_duration_is_written_as_it_is_typed(seconds: float, text: str) -> None:
    assert DURATION.text(seconds) == text
    assert DURATION.convert(text, None, None) == seconds
