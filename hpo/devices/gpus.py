"""GPUs of this host as the NVIDIA driver lists them, without importing a framework or touching a GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import GpuMissingError, UsageError

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Folder in which the kernel module lists its GPUs, even without nvidia-smi."""

LEAST_FREE_BYTES = 2**29
"""Free memory of a GPU below which an error of CUDA's libraries counts as want of memory."""

_NO_GPU = "{}: no GPU is visible on this host; run hpo doctor to see why, or leave the option out"
_SECONDS = 30
_MIB = 2**20
_MIG_GB = 950_000_000
"""Bytes for each `gb` in the name of a MIG profile, which rounds up: `1g.18gb` of an H200 has 16 GiB."""
_INSTANCE = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)")


class DriverFailedError(Exception):
    """nvidia-smi is installed but fails; the message is its output."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG instance of a partitioned one."""

    label: str
    """Index in nvidia-smi; `0.1` is the second MIG instance of GPU 0."""
    address: str
    """Value for CUDA_VISIBLE_DEVICES: the UUID, or the user's own entry."""
    model: str = ""
    memory_bytes: int | None = None
    """Total memory; None if the driver does not report it."""


def visible_gpus(warn: bool = False) -> tuple[Gpu, ...]:
    """Return the installed GPUs that CUDA_VISIBLE_DEVICES lets this process use.

    Empty if the driver fails; `warn` prints that to stderr, because trials would silently train on CPUs.

    The variable is read as CUDA reads it: indices, UUIDs or UUID prefixes, up to the first unknown entry.
    Without a driver to query, as in a container without nvidia-smi, the variable alone decides.
    """
    try:
        installed = installed_gpus()
    except DriverFailedError as error:
        if warn:
            print(f"nvidia-smi failed, so no GPU is used: {error}", file=sys.stderr)
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return installed
    visible = []
    for entry in (part.strip() for part in chosen.split(",")):
        gpu = _find(entry, installed) if installed else _from_variable(entry)
        if gpu is None:
            break
        # An index stays as written: CUDA may number GPUs differently from nvidia-smi.
        visible.append(
            Gpu(gpu.label, entry if entry.isdecimal() else gpu.address, gpu.model, gpu.memory_bytes)
        )
    return tuple(visible)


def choose_gpus(wanted: str | None, device: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs to use, from `--gpus` (none, all, or indices or UUIDs) and `--device` (cpu or gpu).

    Raises:
        UsageError: the options contradict each other, or a requested GPU is not visible.
        GpuMissingError: `--device gpu` or `--gpus all` without a visible GPU.
    """
    none = wanted == "none"
    if (device == "cpu" and wanted not in (None, "none")) or (device == "gpu" and none):
        raise UsageError(
            f"--device {device} and --gpus {wanted} contradict each other: leave one of them out"
        )
    if device == "cpu" or none:
        return ()
    visible = visible_gpus(warn=True)
    if wanted == "all" and not visible:
        raise GpuMissingError(_NO_GPU.format("--gpus all"))
    if wanted not in (None, "all"):
        visible = tuple(_required(entry.strip(), visible) for entry in str(wanted).split(","))
    if device == "gpu" and not visible:
        raise GpuMissingError(_NO_GPU.format("--device gpu"))
    return visible


def installed_gpus() -> tuple[Gpu, ...]:
    """Return all GPUs that the NVIDIA driver lists; for a partitioned GPU, its MIG instances.

    Raises:
        DriverFailedError: nvidia-smi is installed but fails.
    """
    if shutil.which("nvidia-smi") is None:
        return _listed_by_kernel_module()
    found: list[Gpu] = []
    instances: list[Gpu] | None = None
    for index, uuid, model, memory, mig in query_gpus(
        "index", "uuid", "name", "memory.total", "mig.mode.current"
    ):
        if mig == "Enabled":
            # A partitioned GPU computes only through its instances.
            instances = _instances(_query("-L")) if instances is None else instances
            found += [instance for instance in instances if instance.label.startswith(f"{index}.")]
        else:
            found.append(Gpu(index, uuid, model, int(memory) * _MIB if memory.isdecimal() else None))
    return tuple(found)


def compute_capabilities() -> frozenset[float]:
    """Return the CUDA compute capabilities of the installed GPUs, e.g. 8.0; empty if the driver is too old."""
    try:
        rows = query_gpus("compute_cap")
    except DriverFailedError:
        return frozenset()
    return frozenset(float(number) for (number,) in rows if re.fullmatch(r"\d+\.\d+", number))


def is_full(address: str) -> bool:
    """Return whether a GPU has too little free memory for the handles and workspaces of CUDA's libraries.

    False if the driver does not tell, as of a MIG instance.
    """
    try:
        rows = query_gpus("memory.free", options=(f"--id={address}",))
    except DriverFailedError:
        return False
    return any(free.isdecimal() and int(free) * _MIB < LEAST_FREE_BYTES for (free,) in rows)


def query_gpus(*fields: str, options: Sequence[str] = ()) -> list[list[str]]:
    """Return fields of `nvidia-smi --query-gpu` for each GPU; sizes are in MiB.

    Raises:
        DriverFailedError: nvidia-smi is missing or fails.
    """
    lines = _query(f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", *options)
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    # Others are messages of the driver, such as that a GPU's information is damaged.
    return [row for row in rows if len(row) == len(fields)]


def _query(*arguments: str) -> list[str]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or getattr(error, "stdout", None) or error
        raise DriverFailedError(" ".join(str(output).split())) from error
    return [line for line in answer.stdout.splitlines() if line.strip()]


def _instances(lines: Sequence[str]) -> list[Gpu]:
    """Parse the MIG instances that `nvidia-smi -L` lists under their GPUs."""
    found, parent, model = [], "", ""
    for line in lines:
        if gpu := re.match(r"GPU (\d+): (.+) \(UUID:", line):
            parent, model = gpu[1], gpu[2]
        elif instance := _INSTANCE.match(line):
            size = re.search(r"\.(\d+)gb", instance[1])
            memory = int(size[1]) * _MIG_GB if size else None
            found.append(Gpu(f"{parent}.{instance[2]}", instance[3], f"{model} MIG {instance[1]}", memory))
    return found


def _listed_by_kernel_module() -> tuple[Gpu, ...]:
    """Return the GPUs listed in /proc, without memory and instances, if nvidia-smi is not installed."""
    found: list[Gpu] = []
    for file in sorted(DRIVER.glob("*/information")):
        lines = [line.partition(":") for line in file.read_text(errors="replace").splitlines()]
        facts = {name.strip(): value.strip() for name, _, value in lines}
        label, uuid = facts.get("Device Minor", str(len(found))), facts.get("GPU UUID", "?")
        # The UUID reads as question marks until the GPU is first used.
        found.append(Gpu(label, label if "?" in uuid else uuid, facts.get("Model", "")))
    return tuple(found)


def _find(entry: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """Return the GPU with an index or UUID prefix; for a partitioned GPU, its first instance."""
    for gpu in gpus:
        by_index = entry in (gpu.label, gpu.label.partition(".")[0])
        if by_index or (entry.startswith(("GPU-", "MIG-")) and gpu.address.startswith(entry)):
            return gpu
    return None


def _from_variable(entry: str) -> Gpu | None:
    return Gpu(entry, entry) if entry.isdecimal() or entry.startswith(("GPU-", "MIG-")) else None


def _required(entry: str, visible: Sequence[Gpu]) -> Gpu:
    gpu = _find(entry, visible)
    if gpu is None:
        labels = ", ".join(gpu.label for gpu in visible) or "none"
        raise UsageError(f"--gpus {entry}: no such GPU is visible (visible: {labels}; hpo doctor lists them)")
    return gpu
