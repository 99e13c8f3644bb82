"""`hpo --help`: its contents, its imports, and the help of every option of every command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pkgutil import walk_packages

import click
import pytest
from click.testing import CliRunner

from hpo.cli import commands as commands_package
from hpo.cli.main import SECTIONS, cli
from hpo.options.defaults import CURVES, GRID, PRUNERS, SAMPLERS, LaunchDefaults
from hpo.search import pruners, samplers
from objectives.data.shipped import SHIPPED

HEAVY = ("tensorflow", "keras", "optuna", "sqlalchemy", "numpy", "rich", "alembic", "yaml")


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, click.Context(below, info_name=name, parent=context))


ALL = list(walk(cli, click.Context(cli, info_name="hpo", **cli.context_settings)))
OPTIONS = [
    pytest.param(option, id=f"{path} {option.opts[0]}")
    for path, command in ALL
    for option in command.params
    if isinstance(option, click.Option) and option.name not in ("help", "version")
]


def test_help_lists_commands_in_groups() -> None:
    printed = CliRunner().invoke(cli, ["--help"]).output
    assert printed.index("\nRun:\n") < printed.index("\nLook:\n") < printed.index("\nUse:\n")
    for commands in SECTIONS.values():
        for name in commands:
            assert f"\n  {name} " in printed


def test_each_section_has_a_package_with_its_commands() -> None:
    found = list(walk_packages(commands_package.__path__, "hpo.cli.commands."))
    packages = {module.name.rpartition(".")[2] for module in found if module.ispkg}
    assert packages == {title.lower() for title in SECTIONS}
    # `ALL` has imported the module of each command.
    assert [module.name for module in found if module.name not in sys.modules] == []


@pytest.mark.parametrize("group", [[], ["data"]])
def test_short_help_is_not_truncated(group: list[str]) -> None:
    printed = CliRunner().invoke(cli, [*group, "--help"], terminal_width=80).output
    assert "..." not in printed.replace("[ARGS]...", "")


def test_help_shows_no_range_of_any_number() -> None:
    assert "00000000.0" not in CliRunner().invoke(cli, ["launch", "--help"]).output


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_command_has_help(path: str, command: click.Command) -> None:
    printed = CliRunner().invoke(cli, [*path.split()[1:], "--help"])
    assert printed.exit_code == 0
    assert command.help


@pytest.mark.parametrize("option", OPTIONS)
def test_option_has_help_and_default(option: click.Option) -> None:
    record = option.get_help_record(click.Context(cli, show_default=True))
    assert record is not None
    assert option.help
    assert option.help.endswith(".")
    assert option.required or "default: " in record[1]


def test_option_of_a_machine_has_a_variable() -> None:
    expected = {
        "storage": "HPO_STORAGE",
        "study": "HPO_STUDY",
        "data_dir": "HPO_DATA_DIR",
        "workers": "HPO_WORKERS",
    }
    for _, command in ALL:
        for option in command.params:
            if isinstance(option, click.Option) and option.name in expected:
                assert option.envvar == expected[option.name]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["launch", "--help"], ["status", "--help"], ["data", "--help"], ["--version"], ["nonsense"]],
)
def test_help_imports_little(arguments: list[str]) -> None:
    heavy, count = imported(arguments, HEAVY)
    assert heavy == []
    # 190 on Python 3.11; it is printed in 0.12 s.
    assert count < 250


def test_objectives_are_described_without_a_framework_or_a_database() -> None:
    assert imported(["objectives"], ("keras", "tensorflow", "sqlalchemy"))[0] == []


def imported(arguments: list[str], modules: tuple[str, ...]) -> tuple[list[str], int]:
    """Return those of the modules that `hpo` with these arguments imports, and the number of all that it imports."""
    program = (
        "import json, sys\n"
        "from hpo.cli.main import run\n"
        f"run({arguments!r})\n"
        f"print(json.dumps([[name for name in {modules!r} if name in sys.modules], len(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, count = json.loads(done.stdout.splitlines()[-1])
    return found, count


def test_help_lists_all_samplers_and_pruners() -> None:
    assert tuple(samplers.SAMPLERS) == SAMPLERS
    assert tuple(pruners.PRUNERS) == PRUNERS


def test_help_shows_actual_defaults() -> None:
    printed = " ".join(CliRunner().invoke(cli, ["launch", "--help"]).output.split())
    defaults = LaunchDefaults()
    pruner = (
        f"{defaults.pruner} for a KerasObjective of {defaults.least_epochs} epochs or more without --sampler and"
        f" --constraint, else {defaults.pruner_without_pauses}, or {defaults.pruner_of_many} from"
        f" {defaults.many_trials} trials on,"
    )
    sampler = (
        f"{GRID} if --trials suffice for the whole space, else {defaults.sampler}, {CURVES} if trials pause,"
    )
    seed = f"{defaults.seed}, or another one if it learns from earlier studies,"
    for value in (defaults.trials, sampler, pruner, seed, defaults.max_failed):
        assert f"default: {value} for a new study" in printed


def test_shell_completes_commands_and_shipped_names() -> None:
    environment = {"_HPO_COMPLETE": "bash_complete", "COMP_WORDS": "hpo la", "COMP_CWORD": "1"}
    done = CliRunner().invoke(cli, env=environment, prog_name="hpo")
    assert done.output == "plain,launch\n"
    environment = {"_HPO_COMPLETE": "bash_complete", "COMP_WORDS": "hpo objectives digits", "COMP_CWORD": "2"}
    done = CliRunner().invoke(cli, env=environment, prog_name="hpo")
    assert done.output == "plain,digits-cnn\n"
    environment = {"_HPO_COMPLETE": "bash_complete", "COMP_WORDS": "hpo data fetch ", "COMP_CWORD": "3"}
    done = CliRunner().invoke(cli, env=environment, prog_name="hpo")
    assert done.output.split() == [f"plain,{name}" for name in SHIPPED]


def test_help_of_data_names_the_data_sets_of_the_registry() -> None:
    for command in ("fetch", "verify", "explore"):
        printed = CliRunner().invoke(cli, ["data", command, "--help"]).output
        assert f"Data sets: {', '.join(SHIPPED)}." in printed
