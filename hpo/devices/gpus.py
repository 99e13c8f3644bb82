"""The GPUs of this host, asked of the NVIDIA driver: no framework is imported and no GPU is touched."""

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
"""Where the kernel module lists its GPUs, nvidia-smi or not."""

_SECONDS = 30
_MIB = 2**20
_MIG_GB = 950_000_000
"""Bytes for each `gb` in the name of a MIG profile, which rounds up: `1g.18gb` of an H200 has 16 GiB."""
_FIELDS = "index,uuid,name,memory.total,mig.mode.current"
_INSTANCE = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)")


class DriverFailedError(Exception):
    """nvidia-smi is there and does not work; the message is its own."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one that is partitioned (MIG)."""

    label: str
    """As users call it: its index in nvidia-smi, `0.1` for the second instance of GPU 0."""
    address: str
    """What CUDA_VISIBLE_DEVICES takes: its UUID, or what the user has put there."""
    model: str = ""
    memory_bytes: int | None = None
    """All of it; None where the driver does not say."""


def visible_gpus(complain: bool = False) -> tuple[Gpu, ...]:
    """The GPUs that this process may use: those installed, within CUDA_VISIBLE_DEVICES.

    None where the driver fails, which is said on stderr if asked: trials would silently train on processors.

    As CUDA reads it: indices, UUIDs or their beginnings, up to the first that is unknown. Where the
    driver cannot be asked, as in a container without nvidia-smi, the variable alone is believed.
    """
    try:
        installed = installed_gpus()
    except DriverFailedError as error:
        if complain:
            print(f"no GPU is used, for nvidia-smi fails: {error}", file=sys.stderr)
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return installed
    visible = []
    for entry in (part.strip() for part in chosen.split(",")):
        gpu = _called(entry, installed) if installed else _believed(entry)
        if gpu is None:
            break
        # Kept as the user wrote it: CUDA may count otherwise than nvidia-smi does.
        visible.append(
            Gpu(gpu.label, entry if entry.isdecimal() else gpu.address, gpu.model, gpu.memory_bytes)
        )
    return tuple(visible)


def choose_gpus(wanted: str | None, device: str | None) -> tuple[Gpu, ...]:
    """The GPUs to use: `--gpus` none, all or a list of indices or UUIDs, and `--device` cpu or gpu.

    Raises:
        UsageError: the two contradict each other, or one asked for is not visible.
        GpuMissingError: `--device gpu` where there is none.
    """
    none = wanted == "none"
    if (device == "cpu" and wanted not in (None, "none")) or (device == "gpu" and none):
        raise UsageError(
            f"--device {device} and --gpus {wanted} contradict each other: leave one of them out"
        )
    if device == "cpu" or none:
        return ()
    visible = visible_gpus(complain=True)
    if wanted == "all" and not visible:
        raise GpuMissingError("--gpus all, but this host shows no GPU: hpo doctor says why, or leave it out")
    if wanted not in (None, "all"):
        visible = tuple(_asked(entry.strip(), visible) for entry in str(wanted).split(","))
    if device == "gpu" and not visible:
        raise GpuMissingError(
            "--device gpu, but this host shows no GPU: hpo doctor says why, or leave it out"
        )
    return visible


def installed_gpus() -> tuple[Gpu, ...]:
    """Every GPU that the NVIDIA driver lists, instances of partitioned ones instead of the whole.

    Raises:
        DriverFailedError: nvidia-smi is there and fails.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return _of_the_kernel_module()
    found: list[Gpu] = []
    instances: list[Gpu] | None = None
    for line in _ask(program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != _FIELDS.count(",") + 1:
            # A remark of the driver's, such as that a GPU's information is damaged.
            continue
        index, uuid, model, memory, mig = fields
        if mig == "Enabled":
            # Such a GPU computes only through its instances, and one without any not at all.
            instances = _instances(_ask(program, "-L")) if instances is None else instances
            found += [instance for instance in instances if instance.label.startswith(f"{index}.")]
        else:
            found.append(Gpu(index, uuid, model, int(memory) * _MIB if memory.isdecimal() else None))
    return tuple(found)


def compute_capabilities() -> frozenset[float]:
    """CUDA's, of the GPUs installed, as 8.0; none where the driver does not say, as old ones do not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return frozenset()
    try:
        lines = _ask(program, "--query-gpu=compute_cap", "--format=csv,noheader")
    except DriverFailedError:
        return frozenset()
    return frozenset(float(line) for line in lines if re.fullmatch(r"\d+\.\d+", line.strip()))


def _ask(program: str, *arguments: str) -> list[str]:
    try:
        answer = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or getattr(error, "stdout", None) or error
        raise DriverFailedError(" ".join(str(said).split())) from error
    return [line for line in answer.stdout.splitlines() if line.strip()]


def _instances(lines: Sequence[str]) -> list[Gpu]:
    """The MIG instances that `nvidia-smi -L` lists under their GPUs."""
    found, parent, model = [], "", ""
    for line in lines:
        if gpu := re.match(r"GPU (\d+): (.+) \(UUID:", line):
            parent, model = gpu[1], gpu[2]
        elif instance := _INSTANCE.match(line):
            size = re.search(r"\.(\d+)gb", instance[1])
            memory = int(size[1]) * _MIG_GB if size else None
            found.append(Gpu(f"{parent}.{instance[2]}", instance[3], f"{model} MIG {instance[1]}", memory))
    return found


def _of_the_kernel_module() -> tuple[Gpu, ...]:
    """What /proc says where nvidia-smi is not installed: no memory, no instances."""
    found: list[Gpu] = []
    for file in sorted(DRIVER.glob("*/information")):
        lines = [line.partition(":") for line in file.read_text(errors="replace").splitlines()]
        facts = {name.strip(): value.strip() for name, _, value in lines}
        label, uuid = facts.get("Device Minor", str(len(found))), facts.get("GPU UUID", "?")
        # Written as question marks until somebody has used the GPU.
        found.append(Gpu(label, label if "?" in uuid else uuid, facts.get("Model", "")))
    return tuple(found)


def _called(entry: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """The GPU of an index or of the beginning of a UUID; for an index with instances, the first of them."""
    for gpu in gpus:
        by_index = entry in (gpu.label, gpu.label.partition(".")[0])
        if by_index or (entry.startswith(("GPU-", "MIG-")) and gpu.address.startswith(entry)):
            return gpu
    return None


def _believed(entry: str) -> Gpu | None:
    return Gpu(entry, entry) if entry.isdecimal() or entry.startswith(("GPU-", "MIG-")) else None


def _asked(entry: str, visible: Sequence[Gpu]) -> Gpu:
    gpu = _called(entry, visible)
    if gpu is None:
        there = ", ".join(gpu.label for gpu in visible) or "none"
        raise UsageError(
            f"--gpus {entry}: no such GPU is visible here (visible: {there}; hpo doctor shows them)"
        )
    return gpu
