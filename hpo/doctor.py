"""Checks of `hpo doctor`: whether this machine meets the requirements of a study, with a remedy if not."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hpo import formatting
from hpo.agent.lanes.kept_speeds import all_kept, text
from hpo.devices import provenance
from hpo.devices.backends import choose_backend, gpus_of_backend
from hpo.devices.cgroups import cpu_quota, memory_limit
from hpo.devices.cores import usable_cores
from hpo.devices.gpus import DriverFailedError, Gpu, installed_gpus, query_gpus, visible_gpus
from hpo.devices.mps import EXCLUSIVE, START, Mps, exclusive_gpus, find_mps
from hpo.devices.slots import describe, plan_here, processes_of_gpus
from hpo.errors import HpoError, UsageError
from hpo.options.hosts import AgentOptions, SlotOptions
from hpo.settings import Settings
from hpo.trainer.lanes.refusal import check_lanes
from objectives.backend.interface import backend_named
from objectives.data.shipped import SHIPPED
from objectives.lanes.rates import best

Result = Literal["ok", "warn", "fail"]

_GIB = 1024**3
_LEAST_DISK, _GOOD_DISK = 1 * _GIB, 5 * _GIB
_LEAST_MEMORY = 2 * _GIB
_PACKAGES = ("hpo-service", "optuna", "keras", "tensorflow", "numpy", "sqlalchemy", "psycopg2-binary")

_CACHED = {"cifar10": "cifar-10-batches-py*"}
"""Names of Keras's downloads that are not `<name>.npz`."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    result: Result
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(
    settings: Settings,
    workers: int | None = None,
    slots: SlotOptions | None = None,
    backend: str | None = None,
) -> list[Check]:
    """Run all checks, in the order in which a study would fail; plan `workers` slots."""
    return [
        _versions(),
        _backend(backend),
        _storage(settings),
        *(_data_set(name, dataset.download, settings.data_dir) for name, dataset in SHIPPED.items()),
        _accelerators(),
        _cores(),
        _slots(workers, slots or SlotOptions()),
        *_lanes(settings, slots or SlotOptions()),
        *_mps(workers, slots or SlotOptions()),
        _memory(),
        _disk("disk home", settings.home, "HPO_HOME"),
        _disk("disk checkpoints", settings.checkpoints, "HPO_CHECKPOINTS"),
        _disk("disk results", settings.results_dir, "HPO_RESULTS_DIR"),
        _fork(),
    ]


def _versions() -> Check:
    installed = provenance.versions(_PACKAGES)
    found = [f"{name} {number}" for name, number in installed.items()]
    missing = [package for package in _PACKAGES if package not in installed]
    if not missing:
        return Check("versions", "ok", ", ".join(found))
    # Without package metadata the project still runs from its sources.
    result: Result = "warn" if missing == ["hpo-service"] else "fail"
    detail = f"{', '.join(found)}; not installed: {', '.join(missing)}"
    return Check("versions", result, detail, "pip install hpo-service")


def _backend(requested: str | None = None) -> Check:
    """Check that the backend is installed, and that it finds the GPUs of the driver."""
    try:
        name = choose_backend(requested)
    except UsageError as error:
        return Check("backend", "fail", str(error), "--backend or KERAS_BACKEND: one that is installed")
    backend = backend_named(name)
    detail = f"{name} {provenance.versions([backend.package]).get(backend.package, '')}".strip()
    if not visible_gpus():
        return Check("backend", "ok", f"{detail}, on the CPU")
    found = gpus_of_backend(name)
    detail += f", which finds {', '.join(found) if found else 'no GPU'}"
    with suppress(DriverFailedError):
        detail += "".join(f", driver {version}" for [version] in query_gpus("driver_version")[:1])
    if found:
        return Check("backend", "ok", detail)
    return Check(
        "backend", "warn", f"{detail}: trials on a GPU fail or train on the CPU", backend.gpu_installation
    )


def _storage(settings: Settings) -> Check:
    from storage import studies
    from storage.engine import server_version
    from storage.opening import open_database

    try:
        with open_database(settings.storage, settings.home) as database:
            server, known = database.transaction(lambda c: (server_version(c), len(studies.names(c))))
            kind = f"embedded in {settings.home}" if database.embedded else database.shown
    except HpoError as error:
        return Check("storage", "fail", str(error))
    held = formatting.counted(known, "study", "studies")
    return Check("storage", "ok", f"PostgreSQL {server}, {kind}, {held}")


def _data_set(name: str, download: str | None, data_dir: Path) -> Check:
    """Check that a data set exists; `hpo data verify` checks its contents."""
    label = f"data {name}"
    file = data_dir / f"{name}.npz"
    if file.is_file():
        if not os.access(file, os.R_OK):
            return Check(label, "fail", f"{file} is not readable", f"chmod a+r {file}")
        return Check(label, "ok", f"{file}, {formatting.size(file.stat().st_size)}")
    if download is None:
        return Check(label, "ok", "bundled with scikit-learn")
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    if any(cache.glob(_CACHED.get(name, f"{name}.npz"))):
        return Check(label, "ok", f"in the download cache {cache}")
    return Check(
        label,
        "warn",
        f"not on this machine (no {file}); it is downloaded on first use",
        f"hpo data fetch {name}, or put {name}.npz into HPO_DATA_DIR",
    )


def _accelerators() -> Check:
    """Check the visible GPUs against the installed ones."""
    try:
        installed = installed_gpus()
    except DriverFailedError as error:
        return Check("accelerators", "warn", f"nvidia-smi fails: {error}", "repair the NVIDIA driver")
    visible = visible_gpus()
    shown = "; ".join(_gpu(gpu) for gpu in visible)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    within = "" if chosen is None else f" (CUDA_VISIBLE_DEVICES={chosen}; the driver lists {len(installed)})"
    if any(gpu.memory_bytes is None for gpu in visible):
        detail = f"{shown}{within}: slots that share a GPU divide 90 % of it, which may leave CUDA too little"
        return Check("accelerators", "warn", detail, "install nvidia-smi")
    return Check("accelerators", "ok", (shown or "no GPU: trials train on the CPU") + within)


def _gpu(gpu: Gpu) -> str:
    memory = ", memory unknown" if gpu.memory_bytes is None else f", {formatting.size(gpu.memory_bytes)}"
    return f"{gpu.label}: {gpu.model or gpu.address}{memory}"


def _slots(workers: int | None, options: SlotOptions) -> Check:
    try:
        devices, notes = plan_here(workers, options)
    except HpoError as error:
        return Check("slots", "fail", str(error))
    return Check("slots", "warn" if notes else "ok", "; ".join(describe(devices)), "; ".join(notes))


def _lanes(settings: Settings, options: SlotOptions) -> list[Check]:
    """Show the lanes that `--lanes auto` has chosen on this host, or why a number of lanes cannot be had.

    Nothing if there are none and none are asked for.
    """
    try:
        check_lanes(AgentOptions(slots=options))
    except UsageError as error:
        return [Check("lanes", "fail", str(error))]
    chosen: dict[str, str] = {}
    for kept in all_kept(settings.home):
        detail = f"{best(kept.speeds)} ({text(kept.speeds)}, measured {kept.measured_at[:10]})"
        chosen.setdefault(kept.objective, detail)
    if chosen:
        detail = "; ".join(f"{name}: {found}" for name, found in chosen.items())
        return [Check("lanes", "ok", f"--lanes auto has chosen: {detail}")]
    if options.lanes != "auto":
        return []
    return [Check("lanes", "ok", "--lanes auto: measured when an objective first trains here with JAX")]


def _mps(workers: int | None, options: SlotOptions) -> list[Check]:
    """Check whether slots that share a GPU can compute at the same time; nothing without a GPU."""
    with suppress(HpoError):
        devices, _ = plan_here(workers, options)
        if gpus := processes_of_gpus(devices):
            mps, shared = find_mps(), [gpu for gpu, processes in gpus.items() if processes > 1]
            return [_mps_check(mps, bool(shared), exclusive_gpus().intersection(shared))]
    return []


def _mps_check(mps: Mps, shared: bool, exclusive: Collection[str]) -> Check:
    """Check the state of MPS, given whether slots share GPUs, and those of them that only one process may use."""
    if mps.is_on:
        return Check("mps", "ok", f"on ({mps.pipes}): slots of one GPU compute at the same time")
    if mps.has_process:
        detail = f"off for this user: it runs, but not with pipes in {mps.pipes}"
        remedy = "set CUDA_MPS_PIPE_DIRECTORY to the folder with which it was started"
    elif mps.has_pipes:
        detail = f"unknown: {mps.pipes} has its pipes, but none of its processes is visible"
        remedy = f"in a container, share the host's processes and IPC too; else start it: {START}"
    else:
        detail, remedy = "off", START
    if exclusive:
        remedy = f"{remedy}; or nvidia-smi --compute-mode=DEFAULT"
        detail = (
            f"{detail}, and GPU {', '.join(sorted(exclusive))} allows one process at a time ({EXCLUSIVE})"
        )
        return Check("mps", "fail", f"{detail}: trials of all slots but one fail", remedy)
    if shared:
        return Check("mps", "warn", f"{detail}: slots of one GPU take turns", remedy)
    return Check("mps", "ok", f"{detail}, and no slots share a GPU")


def _cores() -> Check:
    usable, total = usable_cores().count, os.cpu_count() or 1
    confined = f" of {total}" if usable < total else ""
    quota = cpu_quota()
    limit = (
        "" if quota is None else f" (the container's quota is {formatting.counted(round(quota, 2), 'core')})"
    )
    return Check("cores", "ok", f"{usable}{confined} usable{limit}")


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    limit = memory_limit()
    total = min(memory.total, limit) if limit else memory.total
    detail = f"{formatting.size(min(memory.available, total))} free of {formatting.size(total)}"
    if total < _LEAST_MEMORY:
        return Check("memory", "warn", detail, "TensorFlow and one trial need about 2 GiB")
    return Check("memory", "ok", detail)


def _disk(name: str, folder: Path, variable: str) -> Check:
    remedy = f"choose another folder with {variable}"
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        # Tried, because permissions do not show that root may write, or that a file system is read-only.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        detail = f"{existing} cannot be written: {error.strerror or error}"
        return Check(name, "fail", detail, remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{formatting.size(free)} free for {folder}"
    if free < _LEAST_DISK:
        return Check(name, "fail", detail, f"free some space, or {remedy}")
    if free < _GOOD_DISK:
        return Check(name, "warn", detail, "checkpoints of large models may fill the disk")
    return Check(name, "ok", detail)


def _fork() -> Check:
    if "fork" in multiprocessing.get_all_start_methods():
        return Check("fork", "ok", "available: trials start in milliseconds")
    return Check("fork", "warn", "not available: each trial imports Keras again", "use Linux or macOS")
