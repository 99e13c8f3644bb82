"""`hpo delete` without a database."""

from __future__ import annotations

import pytest

from hpo.cli.main import run


@pytest.mark.usefixtures("no_database")
def test_running_study_is_refused_before_confirmation(monkeypatch, capsys) -> None:
    monkeypatch.setattr("hpo.study.catalog.count_trials", lambda *_: (2, 2))
    monkeypatch.setattr("click.confirm", lambda *_, **__: pytest.fail("asked for confirmation"))
    assert run(["delete", "--study", "demo"]) == 1
    printed = capsys.readouterr().err
    assert "2 trials running" in printed
    assert "--force" in printed
