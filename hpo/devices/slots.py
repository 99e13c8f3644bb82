"""Worker slots: shares of a host's devices that train one trial at a time each."""

from __future__ import annotations

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hpo import formatting
from hpo.devices.cgroups import memory_limit
from hpo.devices.cores import Cores, cores_of_agent, usable_cores
from hpo.devices.gpus import Gpu, choose_gpus
from hpo.devices.mps import EXCLUSIVE, START, exclusive_gpus, find_mps
from hpo.options.hosts import SlotOptions
from objectives.device import Device

log = logging.getLogger(__name__)

CONTEXT_BYTES = 2**30
"""Reserve of a slot's GPU memory for CUDA and its libraries, which allocate outside the framework's pool.
TensorFlow reserves 0.2 to 1.8 GiB of a whole GPU for the same purpose (`MinSystemMemory`)."""

_UNKNOWN_FRACTION = 0.9
"""Share of a GPU's memory that all its slots may take where its size is not known."""


@dataclass(frozen=True)
class _CoreShare:
    """Cores of one slot."""

    cores: tuple[int, ...]
    pinned: bool

    @property
    def count(self) -> int:
        return len(self.cores)

    @property
    def pinned_to(self) -> tuple[int, ...]:
        return self.cores if self.pinned else ()

    @property
    def name(self) -> str:
        first, last = self.cores[0], self.cores[-1]
        return "cpu" if not self.pinned else f"cpu:{first}" if first == last else f"cpu:{first}-{last}"

    def __str__(self) -> str:
        return _format_cores(self.cores) if self.pinned else formatting.counted(self.count, "core")


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
        cores = cores_of_agent(options.cores, cores)
    # How many `auto` are is measured later.
    lanes = 1 if options.lanes in (None, "auto") else int(options.lanes)
    at_once = None if at_most is None else math.ceil(at_most / lanes)
    processes = plan_slots(workers, cores, gpus, options.gpu_share, at_once)
    memory = host_memory() // max(1, len(processes))
    processes = [replace(one, precision=options.precision, host_memory_bytes=memory) for one in processes]
    devices = in_lanes(processes, lanes)[:at_most]
    return devices, [*_notes(workers, cores, gpus), *_exclusive_notes(devices)]


def host_memory() -> int:
    """Return the bytes of this host's memory, in a container at most its limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(total, memory_limit() or total)


def _notes(workers: int | None, cores: Cores, gpus: Sequence[Gpu]) -> list[str]:
    """Return a line for GPUs that stay idle and one for cores that slots share, if the user requested either."""
    notes = []
    if workers is not None and workers < len(gpus):
        idle = ", ".join(gpu.label for gpu in gpus[workers:])
        used = ",".join(gpu.label for gpu in gpus[:workers])
        notes.append(
            f"GPU {idle} stays idle, because each worker slot uses one GPU: use --workers {len(gpus)},"
            f" or --gpus {used} to leave it to others"
        )
    if workers is not None and workers > cores.count:
        notes.append(
            f"{workers} worker slots share {formatting.counted(cores.count, 'core')}, so each trial is slower:"
            f" use --workers {cores.count}, unless trials wait for other things than processor time"
        )
    return notes


def processes_of_gpus(devices: Sequence[Device]) -> Counter[str]:
    """Return the number of processes that the slots of each GPU are, by its address: the lanes of one are one."""
    first = (device for device in devices if not getattr(device, "lane", 0))
    return Counter(device.gpu for device in first if device.gpu is not None)


def _exclusive_notes(devices: Sequence[Device]) -> list[str]:
    """Return a line for GPUs that several slots are to share, but only one process may use."""
    shared = {gpu for gpu, processes in processes_of_gpus(devices).items() if processes > 1}
    laned = {device.gpu for device in devices if device.gpu is not None and device.lanes > 1} - shared
    exclusive = exclusive_gpus() & (shared | laned) if shared or laned else set()
    if not exclusive or find_mps().is_on:
        return []
    return [
        f"GPU {', '.join(sorted(found))} allows one process at a time ({EXCLUSIVE}), so {fail} will fail:"
        f" start CUDA MPS ({START}), run nvidia-smi --compute-mode=DEFAULT, or {instead}"
        for gpus, fail, instead in (
            (shared, "trials of its other slots", "use a slot for each GPU"),
            (laned, "trials that cannot share a program with others", "leave --lanes out"),
        )
        if (found := exclusive & gpus)
    ]


def plan_slots(
    workers: int | None,
    cores: Cores,
    gpus: Sequence[Gpu],
    gpu_share: float = 1.0,
    at_most: int | None = None,
) -> list[Device]:
    """Assign GPUs round-robin and contiguous runs of cores to `workers` slots.

    The default is one slot per GPU, or one per core: several single-threaded trainers train more
    images per second than one trainer with as many threads. More slots than cores share cores. Slots
    that are not pinned get a number of cores each. Slots that share a GPU divide its memory, or the fraction
    `gpu_share` of it.
    """
    count = workers or len(gpus) or cores.count
    count = min(count, at_most or count)
    shares = [_CoreShare(share, cores.pinned) for share in _core_shares(count, cores.usable[: cores.count])]
    if not gpus:
        return [
            Device(share.name, cores=share.pinned_to, core_count=share.count, owns=str(share))
            for share in shares
        ]
    gpu_of_slot = [gpus[i % len(gpus)] for i in range(count)]
    sharers = Counter(gpu_of_slot)
    return [
        _gpu_device(gpu, gpu_share / sharers[gpu], share)
        for gpu, share in zip(gpu_of_slot, shares, strict=True)
    ]


def in_lanes(devices: Sequence[Device], lanes: int) -> list[Device]:
    """Return a slot for each of so many lanes of each device; the slots of a device follow each other."""
    if lanes == 1:
        return list(devices)
    return [
        replace(
            device,
            name=f"{device.name}/{lane}",
            lane=lane,
            lanes=lanes,
            gpu_memory_grows=True,
            owns=f"{device.owns or device.name}, lane {lane} of {lanes}",
        )
        for device in devices
        for lane in range(lanes)
    ]


def of_one_lane(device: Device) -> Device:
    """Return the device of a process that trains the trial of one lane by itself, with its part of memory and threads.

    The parts of all lanes add up to what the process of the lanes may take, and both take memory as they need it. So a
    GPU is divided well whether all of its trials, some of them or none can share a program.
    """
    if device.lanes == 1:
        return device
    usable, fraction = device.gpu_usable_bytes, None
    if device.gpu is not None:
        whole = device.gpu_memory_fraction
        fraction = (whole or _UNKNOWN_FRACTION) / device.lanes
        if usable is not None:
            total = usable + CONTEXT_BYTES if whole is None else usable / whole
            usable = _usable((usable + CONTEXT_BYTES) // device.lanes)
            fraction = usable / total
    memory = device.host_memory_bytes
    return replace(
        device,
        lane=None,
        lanes=1,
        core_count=max(1, device.threads // device.lanes),
        gpu_memory_bytes=usable,
        gpu_memory_fraction=fraction,
        gpu_usable_bytes=usable,
        host_memory_bytes=None if memory is None else memory // device.lanes,
    )


def describe(devices: Sequence[Device]) -> list[str]:
    """Return one line per slot, e.g. `slot 0: gpu 0 (1/2, 68 GiB), cores 0-3`, or for all lanes of a process."""
    lines = []
    for number, device in enumerate(devices):
        owns = device.owns or device.name
        if device.lane is None:
            lines.append(f"slot {number}: {owns}")
        elif device.lane == 0:
            last = min(number + device.lanes, len(devices)) - 1
            lines.append(f"slots {number}-{last}: {_LANE.sub('', owns)}, {device.lanes} lanes")
    return lines


_LANE = re.compile(r", lane \d+ of \d+$")


def parse_description(text: str) -> dict[str, Any]:
    """Parse `Device.owns` into the number of `cores` and the `gpu`; empty for any other text."""
    found = re.fullmatch(
        r"(?:gpu (.+), )?(?:cores? (\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)|(\d+) cores?)", _LANE.sub("", text)
    )
    if found is None:
        return {}
    if found[3]:
        return {"cores": int(found[3]), "gpu": found[1]}
    runs = [[int(core) for core in run.split("-")] for run in found[2].split(",")]
    return {"cores": sum(run[-1] - run[0] + 1 for run in runs), "gpu": found[1]}


def _core_shares(count: int, cores: Sequence[int]) -> list[tuple[int, ...]]:
    if count >= len(cores):
        return [(cores[i % len(cores)],) for i in range(count)]
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [tuple(cores[a:b]) for a, b in pairwise(bounds)]


def _gpu_device(gpu: Gpu, share: float, cores: _CoreShare) -> Device:
    limit = fraction = None
    amount = ""
    usable = None if gpu.memory_bytes is None else _usable(gpu.memory_bytes)
    if share < 1.0:
        fraction, amount = _UNKNOWN_FRACTION * share, f" ({_format_share(share)})"
        if gpu.memory_bytes is not None:
            limit = usable = _usable(round(gpu.memory_bytes * share))
            fraction = limit / gpu.memory_bytes
            amount = f" ({_format_share(share)}, {formatting.size(limit)})"
    elif gpu.memory_bytes is not None:
        amount = f" ({formatting.size(gpu.memory_bytes)})"
    return Device(
        name=f"gpu:{gpu.label}",
        cores=cores.pinned_to,
        core_count=cores.count,
        gpu=gpu.address,
        gpu_memory_bytes=limit,
        gpu_memory_fraction=fraction,
        gpu_usable_bytes=usable,
        owns=f"gpu {gpu.label}{amount}, {cores}",
    )


def _usable(part: int) -> int:
    """Return the bytes of a part of a GPU's memory that CUDA and its libraries leave to a framework."""
    return max(part - CONTEXT_BYTES, part // 2)


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
