"""Provenance of a result: versions, hardware and commit, without importing a framework."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from hpo.devices.cores import usable_cores
from hpo.devices.gpus import compute_capabilities, visible_gpus
from objectives import backend as keras_backend
from objectives.device import Device

_BACKENDS = (backend.package for backend in keras_backend.BACKENDS.values())
VERSIONED = ("hpo-service", "optuna", "keras", *_BACKENDS, "numpy")
"""Packages that can change a result."""

DATA = "data"
"""Key of the line on a study's data, among the versions that a template and an agent report."""


DATA_DIGEST = "data_digest"
"""Key of the digest of a study's own images, likewise."""


def versions(packages: Sequence[str] = VERSIONED) -> dict[str, str]:
    """Return the versions of Python and of the installed packages, without importing them."""
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """Return processor, usable cores, memory in GiB and GPUs of this host."""
    return {
        "processor": _processor(),
        "cores": usable_cores().count,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [gpu.model or gpu.address for gpu in visible_gpus()],
        "system": f"{platform.system()} {platform.machine()}",
    }


def training_environment(device: Device) -> dict[str, str]:
    """Return the versions, backend and precision with which trainers on `device` train."""
    return {**versions(), "backend": backend(), "precision": precision(device)}


def backend() -> str:
    """Return the backend that the environment makes Keras use."""
    return keras_backend.chosen()


def precision(device: Device) -> str:
    """Return the precision of trainers on a device; `auto` if it is known only once the GPU is used."""
    if device.gpu is None or device.precision != "auto":
        return keras_backend.precision(device)
    found = {keras_backend.precision(device, capability) for capability in compute_capabilities()}
    return found.pop() if len(found) == 1 else "auto"


def objective_sha256(reference: str) -> str | None:
    """Return the SHA-256 of an objective's file given as `path/to/file.py:Class`; None for other references."""
    source, separator, _ = reference.rpartition(":")
    if not separator or not source.endswith(".py"):
        return None
    with suppress(OSError):
        return hashlib.sha256(Path(source).expanduser().read_bytes()).hexdigest()
    return None


def git_commit() -> str | None:
    """Return the commit of the working directory, with `-dirty` if it has changes; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
        return answer.stdout.strip()
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
