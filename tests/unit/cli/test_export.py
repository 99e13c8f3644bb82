"""`hpo export` without a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.cli.main import run


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("name", "form", "note"),
    [("best.json", [], ""), ("best.cfg", [], " as yaml"), ("best.cfg", ["--format", "toml"], " as toml")],
)
def test_export_prints_format_unless_suffix_implies_it(
    monkeypatch, capsys, tmp_path: Path, name: str, form: list[str], note: str
) -> None:
    monkeypatch.setattr("hpo.export.best_config.build_config", lambda *_: None)
    monkeypatch.setattr("hpo.export.config_file.render", lambda _, wanted: wanted)
    file = tmp_path / name
    assert run(["export", "--study", "demo", "-o", str(file), *form]) == 0
    assert capsys.readouterr().out == f"wrote {file}{note}\n"
