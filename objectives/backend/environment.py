"""Environment variables and files that decide how Keras and its backend start."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from objectives.base import Device


def chosen() -> str:
    """Return the backend that importing Keras would choose: `KERAS_BACKEND`, keras.json or tensorflow."""
    return os.environ.get("KERAS_BACKEND") or _configured() or "tensorflow"


def before_import() -> None:
    """Set the variables that a backend reads while it is imported; values that you have set stay."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Several trials may share a GPU, so JAX must not take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Keeps cuBLAS deterministic under torch.use_deterministic_algorithms; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def bind(device: Device) -> None:
    """Make only `device` visible to this process, and limit JAX to its share of the GPU's memory.

    CUDA and XLA read these variables when they start, which a freshly forked trainer has not done yet.
    """
    # A slot of processor cores must not see a GPU, or its framework would take the GPU's memory.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device.gpu is None else device.gpu
    if device.gpu_memory_fraction is not None:
        # The older of the two names, which all versions read; newer ones refuse to be given both.
        os.environ.pop("XLA_CLIENT_MEM_FRACTION", None)
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{device.gpu_memory_fraction:.4f}"
        # JAX documents the limit only for memory that is allocated at the start.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"


def _configured() -> str | None:
    """Return the backend that keras.json names, looking where Keras does."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
        folder = Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser()
        found = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
        return str(found["backend"]) if isinstance(found, dict) and "backend" in found else None
    return None
