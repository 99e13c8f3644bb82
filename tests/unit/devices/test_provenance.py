"""Where a result came from: versions, the objective's file, the backend."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.devices import provenance
from hpo.devices.provenance import backend, objective_sha256, precision, training_environment, versions
from objectives.device import Device


def test_versions_are_read_without_importing() -> None:
    program = (
        "import sys; from hpo.devices.provenance import versions as v; v(); print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert {"python", "keras", "optuna", "numpy"} <= set(versions())
    assert set(versions(["numpy", "no-such-package"])) == {"python", "numpy"}


def test_objective_digest_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(b"x = 1")
    assert objective_sha256(f"{file}:Mine") == hashlib.sha256(b"x = 1").hexdigest()
    assert objective_sha256("digits-cnn") is None
    assert objective_sha256("package.module:Mine") is None
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert backend() == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert backend() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend() == "jax"


def test_training_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    # Another test may have imported Keras here; an agent never does.
    monkeypatch.setattr("objectives.backend.interface.name", provenance.keras_backend.chosen)
    assert training_environment(Device()) == versions() | {"backend": "jax", "precision": "float32"}
    assert training_environment(Device(precision="bfloat16"))["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("capabilities", "computed"),
    [((), "auto"), ((7.5,), "float32"), ((8.0, 9.0), "bfloat16"), ((7.5, 9.0), "auto")],
)
def test_precision_of_a_gpu_follows_its_compute_capability(
    capabilities: tuple[float, ...], computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "compute_capabilities", lambda: frozenset(capabilities))
    assert precision(Device(gpu="0")) == computed
    assert precision(Device(gpu="0", precision="float32")) == "float32"
