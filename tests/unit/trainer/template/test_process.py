"""The environment of a template, which its trainers inherit and objectives may print."""

from __future__ import annotations

import pytest

from hpo.trainer.template.interpreter import template_environment


def test_nothing_in_it_leads_to_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "HPO_STORAGE",
        "HPO_DASHBOARD_PASSWORD",
        "HPO_DASHBOARD_PASSWORD_FILE",
        "PGPASSWORD",
        "PGPASSFILE",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGSSLKEY",
        "PGHOST",
        "PGUSER",
    )
    for name in (*secrets, "HPO_HOME", "HPO_DATA_DIR", "KERAS_BACKEND", "MINE"):
        monkeypatch.setenv(name, "x")
    environment = template_environment()
    assert environment.keys().isdisjoint(secrets)
    assert environment.keys() >= {"HPO_HOME", "HPO_DATA_DIR", "KERAS_BACKEND", "MINE", "PATH"}
