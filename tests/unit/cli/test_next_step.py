"""The next step that the status of a study names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpo.cli.commands.look.status import _next_step


@pytest.mark.parametrize(
    ("reached", "step"),
    [("epochs", " (next: hpo retrain --study s, or a larger --max-epochs)"), ("", " (no agent is alive; ")],
)
def test_idle_study_goes_on_only_if_epochs_are_left(reached: str, step: str) -> None:
    goals = SimpleNamespace(reached=reached)
    status: Any = SimpleNamespace(
        name="s", state="idle", goals=goals, best_number=0, has_test_set=True, is_experiment=False
    )
    assert _next_step(status).startswith(step)
