"""Worker slots: shares of a host's devices that train one trial at a time each."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import platform
import re
import stat
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.devices.cgroups import cpu_quota
from hpo.devices.gpus import Gpu, choose_gpus
from hpo.errors import FileNotWritableError
from hpo.options.hosts import SlotOptions
from objectives.base import Device

log = logging.getLogger(__name__)

CONTEXT_BYTES = 2**30
"""Reserve of a slot's GPU memory for CUDA and its libraries, which allocate outside the framework's pool.
TensorFlow reserves 0.2 to 1.8 GiB of a whole GPU for the same purpose (`MinSystemMemory`)."""


def usable_cores() -> tuple[int, ...]:
    """Return the CPU cores that this process may run on, as many as a quota of CPU time allows, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = tuple(sorted(os.sched_getaffinity(0)))
    else:
        cores = tuple(range(os.cpu_count() or 1))
    quota = cpu_quota()
    count = len(cores) if quota is None else math.ceil(round(quota, 2))
    if count >= len(cores):
        return cores
    # Containers on one host cannot see each other's cores: their names, unlike the first cores, differ.
    first = zlib.crc32(platform.node().encode()) % len(cores)
    return tuple(sorted((cores + cores)[first : first + max(1, count)]))


def slots_here(workers: int | None, options: SlotOptions, at_most: int | None = None) -> list[Device]:
    """Return the slots of `plan_here`, and log its notes."""
    devices, notes = plan_here(workers, options, at_most)
    for note in notes:
        log.warning(note)
    return devices


def plan_here(
    workers: int | None, options: SlotOptions, at_most: int | None = None
) -> tuple[list[Device], list[str]]:
    """Return the slots of this host that the options request, at most `at_most`, and notes on a poor division.

    Claimed cores stay claimed until this process ends.

    Raises:
        UsageError: a requested GPU is not visible.
        GpuMissingError: a GPU is requested and none is visible.
        FileNotWritableError: cores cannot be claimed.
    """
    gpus = choose_gpus(options.gpus, options.device)
    cores = usable_cores()
    if options.cores is not None:
        cores = claim_cores(options.cores, cores)
    devices = plan_slots(workers, cores, gpus, options.gpu_share, at_most)
    return [replace(device, precision=options.precision) for device in devices], _notes(workers, cores, gpus)


def _notes(workers: int | None, cores: Sequence[int], gpus: Sequence[Gpu]) -> list[str]:
    """Return a line for GPUs that stay idle and one for cores that slots share, if the user requested either."""
    notes = []
    if workers is not None and workers < len(gpus):
        idle = ", ".join(gpu.label for gpu in gpus[workers:])
        used = ",".join(gpu.label for gpu in gpus[:workers])
        notes.append(
            f"GPU {idle} stays idle, because each worker slot uses one GPU: use --workers {len(gpus)},"
            f" or --gpus {used} to leave it to others"
        )
    if workers is not None and workers > len(cores):
        notes.append(
            f"{workers} worker slots share {formatting.counted(len(cores), 'core')}, so each trial is slower:"
            f" use --workers {len(cores)}, unless trials wait for other things than processor time"
        )
    return notes


def claim_cores(count: int, cores: Sequence[int], folder: Path | None = None) -> tuple[int, ...]:
    """Claim `count` of `cores` until this process ends, unclaimed ones first.

    A claim is a file lock, which the kernel releases however the process ends. If too few cores are
    free, claimed ones are shared: more trials than cores are slow, but allowed.

    Raises:
        FileNotWritableError: the folder of the claims is not usable.
    """
    # Not HPO_HOME: the agents of a host may have different ones.
    claims = folder or Path(tempfile.gettempdir()) / f"hpo-cores-{os.geteuid()}"
    chosen: list[int] = []
    claimed: list[int] = []
    try:
        claims.mkdir(mode=0o700, exist_ok=True)
        found = claims.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise FileNotWritableError(
                f"cannot claim cores in {claims} (other users may write there): remove it, set TMPDIR to a folder of "
                "your own for every agent, or leave --cores out"
            )
        for core in cores:
            if len(chosen) == count:
                break
            # Never closed and not inherited: the claim belongs to this process.
            descriptor = os.open(
                claims / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                chosen.append(core)
            except BlockingIOError:
                os.close(descriptor)
                claimed.append(core)
    except OSError as exc:
        raise FileNotWritableError(
            f"cannot claim cores in {claims} ({exc.strerror}): leave --cores out"
        ) from exc
    if len(chosen) < count and claimed:
        # A different start for each process spreads the shared cores.
        start = os.getpid() % len(claimed)
        chosen += (claimed[start:] + claimed[:start])[: count - len(chosen)]
    return tuple(sorted(chosen))


def plan_slots(
    workers: int | None,
    cores: Sequence[int],
    gpus: Sequence[Gpu],
    gpu_share: float = 1.0,
    at_most: int | None = None,
) -> list[Device]:
    """Assign GPUs round-robin and contiguous runs of cores to `workers` slots.

    The default is one slot per GPU, or one per core: several single-threaded trainers train more
    images per second than one trainer with as many threads. More slots than cores share cores. Slots
    that share a GPU divide its memory, or the fraction `gpu_share` of it.
    """
    count = workers or len(gpus) or len(cores)
    count = min(count, at_most or count)
    shares = _core_shares(count, cores)
    if not gpus:
        return [_cores_device(share) for share in shares]
    gpu_of_slot = [gpus[i % len(gpus)] for i in range(count)]
    sharers = Counter(gpu_of_slot)
    return [
        _gpu_device(gpu, gpu_share / sharers[gpu], share)
        for gpu, share in zip(gpu_of_slot, shares, strict=True)
    ]


def describe(devices: Sequence[Device]) -> list[str]:
    """Return one line per slot, e.g. `slot 0: gpu 0 (1/2, 68 GiB), cores 0-3`."""
    return [f"slot {number}: {device.owns or device.name}" for number, device in enumerate(devices)]


def parse_description(text: str) -> dict[str, Any]:
    """Parse `Device.owns` into the number of `cores` and the `gpu`; empty for any other text."""
    found = re.fullmatch(r"(?:gpu (.+), )?cores? (\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", text)
    if found is None:
        return {}
    runs = [[int(core) for core in run.split("-")] for run in found[2].split(",")]
    return {"cores": sum(run[-1] - run[0] + 1 for run in runs), "gpu": found[1]}


def _core_shares(count: int, cores: Sequence[int]) -> list[tuple[int, ...]]:
    if count >= len(cores):
        return [(cores[i % len(cores)],) for i in range(count)]
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [tuple(cores[a:b]) for a, b in pairwise(bounds)]


def _cores_device(cores: tuple[int, ...]) -> Device:
    first, last = cores[0], cores[-1]
    name = f"cpu:{first}" if first == last else f"cpu:{first}-{last}"
    return Device(name, cores=cores, owns=_format_cores(cores))


def _gpu_device(gpu: Gpu, share: float, cores: tuple[int, ...]) -> Device:
    limit = fraction = None
    amount = ""
    if share < 1.0:
        fraction, amount = 0.9 * share, f" ({_format_share(share)})"
        if gpu.memory_bytes is not None:
            part = round(gpu.memory_bytes * share)
            limit = max(part - CONTEXT_BYTES, part // 2)
            fraction = limit / gpu.memory_bytes
            amount = f" ({_format_share(share)}, {formatting.size(limit)})"
    elif gpu.memory_bytes is not None:
        amount = f" ({formatting.size(gpu.memory_bytes)})"
    return Device(
        name=f"gpu:{gpu.label}",
        cores=cores,
        gpu=gpu.address,
        gpu_memory_bytes=limit,
        gpu_memory_fraction=fraction,
        owns=f"gpu {gpu.label}{amount}, {_format_cores(cores)}",
    )


def _format_share(share: float) -> str:
    parts = round(1 / share)
    return f"1/{parts}" if abs(1 / share - parts) < 0.01 else f"{share:.0%}"


def _format_cores(cores: Sequence[int]) -> str:
    """Format as `core 3`, `cores 0-3` or `cores 0-1,6`."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    shown = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"core{'s' if len(cores) > 1 else ''} {shown}"
