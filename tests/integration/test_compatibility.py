"""Databases, backups, configurations, options and imports of version 0.1 keep working: see `tests/data/v0.1`."""

from __future__ import annotations

import csv
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import hpo as package
from hpo.cli.main import cli, run
from hpo.export.config_file import read_config
from storage.engine import Database
from storage.opening import open_database
from tests.integration.storage.test_migrate import schema
from tests.version_0_1 import EXPECTED, FOLDER, STUDIES, interrupted_trial, read_json

Command = Callable[..., str]

VOLATILE = {"expired"}
"""Fields of `hpo status` that depend on the time: the seconds since a lease expired."""

RETRAINED = ("digits", "moods")
"""Studies with exports and results."""

OPTIONS: dict[str, list[dict[str, Any]]] = read_json("options.json")
NAMES: dict[str, dict[str, dict[str, list[str]]]] = read_json("api.json")

NEEDS_KERAS = {"objectives.architectures", "objectives.training"}
"""Modules that import Keras, which is slow: an acceptance test imports them."""

HELP = {"help_option_names": ["-h", "--help"]}
"""Context settings that commands inherit from the root command."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set HPO_HOME and the folder of results below a temporary folder."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HPO_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.delenv("HPO_STUDY", raising=False)
    return tmp_path


def _commands(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    monkeypatch.setenv("HPO_STORAGE", url)

    def call(*arguments: object) -> str:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return call


@pytest.fixture
def hpo(old_storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command on a database of version 0.1 and returns its stdout."""
    return _commands(old_storage_url, monkeypatch, capsys)


@pytest.fixture
def hpo_read(
    shared_old_storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return the same function on a shared database, for tests that only read."""
    return _commands(shared_old_storage_url, monkeypatch, capsys)


@pytest.fixture
def hpo_elsewhere(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return the same function on a database without studies."""
    return _commands(storage_url, monkeypatch, capsys)


def stable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that do not depend on the time."""
    return {name: value for name, value in values.items() if name not in VOLATILE}


def check_contains(found: dict[str, Any], old: dict[str, Any]) -> None:
    """Check that `found` has all items of `old`; it may have more."""
    assert {name: found.get(name) for name in old} == old


def test_files_of_version_0_1_are_unchanged() -> None:
    for line in (FOLDER / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_migrated_tables_equal_new_ones(database: Database, old_storage_url: str) -> None:
    with open_database(old_storage_url, Path("unused")) as old:
        assert old.transaction(schema) == database.transaction(schema)


def test_old_studies_are_listed(hpo_read: Command) -> None:
    listed = json.loads(hpo_read("ls", "--json"))
    assert len(listed) == len(EXPECTED["ls"])
    for found, old in zip(listed, EXPECTED["ls"], strict=True):
        check_contains(found, old)


@pytest.mark.parametrize("study", STUDIES)
def test_old_study_is_shown_as_before(hpo_read: Command, study: str) -> None:
    old = STUDIES[study]
    check_contains(json.loads(hpo_read("status", "--study", study, "--json")), stable(old["status"]))
    check_contains(json.loads(hpo_read("best", "--study", study, "--json")), old["best"])
    trials = json.loads(hpo_read("trials", "--study", study, "--json"))
    assert len(trials) == len(old["trials"])
    for found, expected in zip(trials, old["trials"], strict=True):
        check_contains(found, expected)


def test_expired_leases_of_an_old_study_are_shown(hpo_read: Command) -> None:
    old = STUDIES["killed"]["status"]["expired"]
    assert old[0]["epoch"] == interrupted_trial("killed")[1]
    found = json.loads(hpo_read("status", "--study", "killed", "--json"))["expired"]
    # The seconds since expiry depend on the time.
    assert [trial | {"seconds": None} for trial in found] == [trial | {"seconds": None} for trial in old]


def test_old_logs_and_tracebacks_are_shown(hpo_read: Command) -> None:
    printed = hpo_read("logs", "--study", "moods")
    assert "epoch 4 of 4" in printed
    assert "ValueError: the objective is broken" in printed
    assert "Traceback" in printed


@pytest.mark.parametrize("study", RETRAINED)
def test_old_best_trial_is_exported_as_before(hpo_read: Command, study: str) -> None:
    old = read_json(f"exports/{study}.json")
    found = json.loads(hpo_read("export", "--study", study, "--format", "json"))
    # `created` is the time of the export.
    assert (found.keys(), found | {"created": None}) == (old.keys(), old | {"created": None})
    for form in ("yaml", "toml", "python"):
        assert study in hpo_read("export", "--study", study, "--format", form)


@pytest.mark.parametrize("study", RETRAINED)
def test_report_of_an_old_study(hpo_read: Command, home: Path, study: str) -> None:
    hpo_read("report", "--study", study)
    folder = home / "results" / study
    assert (folder / "report.html").stat().st_size > 10_000
    assert "Test accuracy" in (folder / "report.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    metrics = read_json(f"results/{study}/metrics.json")
    retrained, best = report["retrained"], STUDIES[study]["best"]
    assert (retrained["summary"], retrained["seeds"]) == (metrics["summary"], metrics["seeds"])
    assert retrained["params"] == metrics["params"]
    assert retrained["selection"] == metrics.get("selection")
    assert report["test_openings"] == metrics["test_opened_at"]
    assert report["best_trial"] == {name: best[name] for name in ("number", "value", "params")}
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [trial["state"] for trial in STUDIES[study]["trials"]]


def test_dataframes_of_an_old_study(shared_old_storage_url: str) -> None:
    found = package.load_study("moods", storage=shared_old_storage_url).results()
    old = STUDIES["moods"]
    assert found.trials["state"].tolist() == [trial["state"] for trial in old["trials"]]
    assert found.trials["param_x"].tolist() == [trial["params"]["x"] for trial in old["trials"]]
    best = old["best"]
    last = found.epochs.loc[(best["number"], best["epochs"])]
    assert {"loss": last["loss"], "total": last["total"]} == best["metrics"]
    assert set(found.attempts["outcome"]) == {"complete", "pruned", "diverged", "oom", "bug"}
    assert {"host", "device", "slot", "resumed_from", "seconds", "versions"} <= set(found.attempts.columns)
    runs = read_json("results/moods/metrics.json")["runs"]
    assert found.retrains["test_accuracy"].tolist() == [run["test_accuracy"] for run in runs]
    with (FOLDER / "results/moods/history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert found.retrain_epochs["loss"].tolist() == losses


@pytest.mark.parametrize(
    ("command", "study"), [("resume", "paused"), ("resume", "stopped"), ("pause", "killed")]
)
def test_old_study_can_be_paused_and_resumed(hpo: Command, command: str, study: str) -> None:
    hpo(command, "--study", study)
    condition = json.loads(hpo("status", "--study", study, "--json"))["condition"]
    assert condition == {"resume": "idle", "pause": "paused"}[command]


def test_old_study_is_deleted(hpo: Command) -> None:
    hpo("delete", "--study", "moods", "--yes")
    assert "moods" not in {study["name"] for study in json.loads(hpo("ls", "--json"))}


def test_old_backups_are_restored(hpo_elsewhere: Command) -> None:
    # Restored oldest first, so that each study finds its reservation ids free and keeps them.
    for study in reversed(STUDIES):
        hpo_elsewhere("restore", FOLDER / "backups" / f"{study}.hpo.gz")
        check_restored(hpo_elsewhere, study)


def check_restored(hpo: Command, study: str) -> None:
    """Check that a study is shown as at the time of its backup, except that no trial is running."""
    old = STUDIES[study]
    check_contains(json.loads(hpo("best", "--study", study, "--json")), old["best"])
    trials = json.loads(hpo("trials", "--study", study, "--json"))
    assert len(trials) == len(old["trials"])
    for found, expected in zip(trials, old["trials"], strict=True):
        # An attempt that was running at the time of the backup ends when it is restored.
        seconds = found["seconds"] if expected["state"] == "waiting" else expected["seconds"]
        check_contains(found, expected | {"seconds": seconds})
    status = json.loads(hpo("status", "--study", study, "--json"))
    for name in ("condition", "control", "budget", "finished", "outcomes", "failed", "waiting"):
        assert status[name] == old["status"][name]


def test_old_study_is_backed_up_and_restored(hpo: Command, home: Path) -> None:
    hpo("backup", "--study", "moods", "-o", home / "moods.gz")
    hpo("restore", home / "moods.gz", "--as", "again")
    check_contains(
        json.loads(hpo("best", "--study", "again", "--json")), STUDIES["moods"]["best"] | {"study": "again"}
    )


@pytest.mark.parametrize("study", RETRAINED)
@pytest.mark.parametrize("name", ["exports/{}.json", "exports/{}.yaml", "exports/{}.toml", "best_config"])
def test_old_configuration_is_read(study: str, name: str) -> None:
    path = FOLDER / (f"results/{study}/best_config.yaml" if name == "best_config" else name.format(study))
    read = read_config(path).to_json()
    written = yaml.safe_load((FOLDER / f"exports/{study}.json").read_text())
    # TOML omits nulls; `created` is the time of the export.
    for inside in ("data", "device"):
        written[inside] = {key: value for key, value in written[inside].items() if value is not None}
        read[inside] = {key: value for key, value in read[inside].items() if value is not None}
    del written["created"]
    assert {key: read[key] for key in written} == written


def command_at(path: str) -> click.Command:
    """Return the command of a path such as `hpo data fetch`."""
    command: click.Command = cli
    context = click.Context(cli, info_name="hpo")
    for name in path.split()[1:]:
        assert isinstance(command, click.Group), path
        below = command.get_command(context, name)
        assert below is not None, f"there is no {path}"
        command, context = below, click.Context(below, info_name=name, parent=context)
    return command


@pytest.mark.parametrize("path", OPTIONS)
def test_commands_accept_all_options_of_version_0_1(path: str) -> None:
    command = command_at(path)
    now = command.get_params(click.Context(command, info_name=path, **command.context_settings | HELP))
    arguments = [parameter for parameter in now if isinstance(parameter, click.Argument)]
    for old in OPTIONS[path]:
        if old["kind"] == "argument":
            argument = arguments.pop(0)
            assert argument.nargs == old["nargs"]
            assert old["required"] or not argument.required
            continue
        for name in old["names"]:
            check_option(path, old, name, now)
    assert not [argument for argument in arguments if argument.required]


def check_option(path: str, old: dict[str, Any], name: str, now: list[click.Parameter]) -> None:
    """Check that a command accepts an option under an old name and with the same kind of value."""
    found = [
        option
        for option in now
        if name in (*option.opts, *option.secondary_opts, *getattr(option, "hidden_names", ()))
    ]
    assert found, f"{path} has no {name}"
    (option,) = found
    assert isinstance(option, click.Option)
    assert option.is_flag != old["takes_value"]
    assert option.multiple == old["multiple"]
    assert old["required"] or not option.required
    if "variable" in old:
        given = option.envvar if isinstance(option.envvar, str) else " ".join(option.envvar or ())
        assert old["variable"] in given.split()
    if "choices" in old:
        assert isinstance(option.type, click.Choice)
        assert set(old["choices"]) <= set(option.type.choices)


def test_old_environment_variables_are_used() -> None:
    folders = [Path(package.__file__).parents[1] / name for name in ("hpo", "objectives", "storage")]
    code = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for name in read_json("env.json"):
        # Variables that begin with an underscore belong to Click.
        assert name.startswith("_") or re.search(rf"\b{name}\b", code), name


@pytest.mark.parametrize("module", [name for name in NAMES if name not in NEEDS_KERAS])
def test_old_names_can_be_imported(module: str) -> None:
    check_names(module)


def check_names(module: str) -> None:
    """Check that a module has its old public names, with their members and parameters."""
    found = importlib.import_module(module)
    for name, old in NAMES[module].items():
        value = getattr(found, name)
        for member in old.get("members", ()):
            assert hasattr(value, member) or member in _fields(value), f"{module}.{name}.{member}"
        parameters = inspect.signature(value).parameters if old.get("parameters") else {}
        assert set(old.get("parameters", ())) <= parameters.keys(), f"{module}.{name}"


def _fields(value: type) -> set[str]:
    """Return the annotated fields of a class and its bases; fields without a default are not attributes."""
    return {name for base in value.__mro__ for name in inspect.get_annotations(base)}
