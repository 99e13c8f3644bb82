"""The values of `--log-to`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.cli.main import run
from hpo.errors import MissingDependencyError, UsageError
from hpo.trackers import target
from hpo.trackers.target import Target, parse_targets


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "find_spec", lambda name: name)


@pytest.mark.usefixtures("installed")
def test_targets_are_parsed_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = (
        "tensorboard",
        f"tensorboard:{tmp_path}/runs",
        "mlflow:http://host:5000",
        "wandb",
        "wandb:me/project",
    )
    parsed = parse_targets(given)
    assert parsed == (
        Target("tensorboard", f"{tmp_path}/runs"),
        Target("mlflow", "http://host:5000"),
        Target("wandb"),
        Target("wandb", "me/project"),
    )
    # As agents elsewhere get them.
    assert parse_targets([one.option for one in parsed]) == parsed


@pytest.mark.usefixtures("installed")
def test_unknown_tracker_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"no tracker 'mlfow'; did you mean mlflow\? \(use tensorboard, mlflow or"
    ):
        parse_targets(["mlfow"])


@pytest.mark.parametrize("kind", target.MODULES)
def test_missing_package_is_reported_with_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=rf"not installed: pip install 'hpo-service\[{kind}\]'"):
        parse_targets([f"{kind}:somewhere"])


@pytest.mark.parametrize("command", ["launch --objective digits-cnn", "worker", "retrain"])
def test_missing_package_ends_a_command_before_its_database_is_opened(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, "find_spec", lambda _: None)
    monkeypatch.setenv("HPO_LOG_TO", "wandb mlflow")
    assert run([*command.split(), "--study", "s", "--storage", "postgresql://nowhere/x"]) == 1
    assert "--log-to wandb needs wandb, which is not installed" in capsys.readouterr().err
