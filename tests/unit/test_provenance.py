"""Where a result came from: versions, the objective's file, the backend."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.provenance import backend, objective_sha256, versions


def test_versions_without_importing() -> None:
    program = "import sys; from hpo.provenance import versions as v; v(); print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert {"python", "keras", "optuna", "numpy"} <= set(versions())
    assert set(versions(["numpy", "no-such-package"])) == {"python", "numpy"}


def test_where_a_result_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(b"x = 1")
    assert objective_sha256(f"{file}:Mine") == hashlib.sha256(b"x = 1").hexdigest()
    assert objective_sha256("digits-cnn") is None
    assert objective_sha256("package.module:Mine") is None
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert backend() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend() == "jax"
