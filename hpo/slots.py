"""Worker slots: the shares of this host that run one trial each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise

from objectives.base import Device


def usable_cores() -> tuple[int, ...]:
    """The processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that the NVIDIA driver lists, within CUDA_VISIBLE_DEVICES; empty where there is none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(gpu.strip() for gpu in chosen.split(",") if gpu.strip() and gpu.strip() != "-1")
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())


def plan_slots(workers: int | None, cores: Sequence[int], gpus: Sequence[str]) -> list[Device]:
    """Spread `workers` slots over the GPUs, or over the cores where there are none.

    By default one slot a GPU, or one a core: single-threaded trainers side by side train more
    images a second than one trainer with as many threads. More slots than cores share them.
    """
    count = workers or len(gpus) or len(cores)
    if gpus:
        return [Device(f"gpu:{gpus[i % len(gpus)]}", (), gpus[i % len(gpus)]) for i in range(count)]
    if count >= len(cores):
        return [_cores_device((cores[i % len(cores)],)) for i in range(count)]
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [_cores_device(tuple(cores[a:b])) for a, b in pairwise(bounds)]


def _cores_device(cores: tuple[int, ...]) -> Device:
    first, last = cores[0], cores[-1]
    return Device(f"cpu:{first}" if first == last else f"cpu:{first}-{last}", cores)
