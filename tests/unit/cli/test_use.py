"""Commands that use a study, without a database."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo.cli import options
from hpo.cli.main import run


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "opened", lambda _: nullcontext(None))


def test_a_study_that_runs_is_refused_before_asking(monkeypatch, capsys) -> None:
    found = SimpleNamespace(running=2, waiting=0, outcomes={})
    monkeypatch.setattr("hpo.study.status.study_status", lambda *_: found)
    monkeypatch.setattr("click.confirm", lambda *_, **__: pytest.fail("it asked"))
    assert run(["delete", "--study", "demo"]) == 1
    said = capsys.readouterr().err
    assert "2 trials running" in said
    assert "--force" in said


@pytest.mark.parametrize(
    ("name", "form", "told"),
    [("best.json", [], ""), ("best.cfg", [], " as yaml"), ("best.cfg", ["--format", "toml"], " as toml")],
)
def test_export_says_the_format_that_the_suffix_does_not(
    monkeypatch, capsys, tmp_path: Path, name: str, form: list[str], told: str
) -> None:
    monkeypatch.setattr("hpo.export.best_config.build_config", lambda *_: None)
    monkeypatch.setattr("hpo.export.config_file.render", lambda _, wanted: wanted)
    file = tmp_path / name
    assert run(["export", "--study", "demo", "-o", str(file), *form]) == 0
    assert capsys.readouterr().out == f"wrote {file}{told}\n"
