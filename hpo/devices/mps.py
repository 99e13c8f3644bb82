"""CUDA MPS: a service of the NVIDIA driver through which processes compute on one GPU at the same time.

Without it a GPU switches between processes, one at a time. Trainers use it by themselves where it runs, because CUDA
looks for its pipes; here it is only found out whether it does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from hpo.devices.gpus import DriverFailedError, query_gpus

DEFAULT_PIPES = Path("/tmp/nvidia-mps")
"""Folder in which CUDA looks for the pipes of the service unless CUDA_MPS_PIPE_DIRECTORY names another."""
DAEMONS = ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
START = "nvidia-cuda-mps-control -d"
EXCLUSIVE = "Exclusive_Process"
"""Compute mode in which only one process at a time may use a GPU; of those of MPS, its server."""

_NAME_BYTES = 15
"""Length to which Linux cuts the names of processes."""


@dataclass(frozen=True, kw_only=True)
class Mps:
    """The state of the service on this host, as trainers find it."""

    pipes: Path
    """Folder in which CUDA looks for it."""
    has_pipes: bool
    """Whether it has been started on this folder, and not ended in an orderly way."""
    has_process: bool
    """Whether one of its processes is visible; a container does not show those of its host."""

    @property
    def is_on(self) -> bool:
        """Whether trainers will compute through it."""
        return self.has_pipes and self.has_process


def find_mps(environment: Mapping[str, str] = os.environ) -> Mps:
    """Return the state of MPS for processes with this environment."""
    pipes = Path(environment.get("CUDA_MPS_PIPE_DIRECTORY") or DEFAULT_PIPES)
    try:
        has_pipes = (pipes / "control").exists()
    except OSError:
        # A folder that only its owner may look into.
        has_pipes = False
    names = {name[:_NAME_BYTES] for name in DAEMONS}
    found = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    return Mps(
        pipes=pipes, has_pipes=has_pipes, has_process=any(name[:_NAME_BYTES] in names for name in found)
    )


def exclusive_gpus() -> frozenset[str]:
    """Return indices and UUIDs of GPUs that only one process at a time may use; empty if the driver does not tell."""
    try:
        rows = query_gpus("index", "uuid", "compute_mode")
    except DriverFailedError:
        return frozenset()
    return frozenset(name for *names, mode in rows if mode == EXCLUSIVE for name in names)
