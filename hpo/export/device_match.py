"""The device of this host that best matches the one that trained an exported configuration."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from hpo import formatting
from hpo.devices import provenance
from hpo.devices.cores import Cores, usable_cores
from hpo.devices.gpus import Gpu, visible_gpus
from hpo.devices.slots import plan_slots
from objectives.backend import bind
from objectives.device import Device, Precision

PACKAGES = ("hpo-service", "keras", "numpy")
"""Packages that training depends on, apart from its backend."""


def match_device(
    device: Mapping[str, Any], precision: str | None, backend: str | None, versions: Mapping[str, str]
) -> Device:
    """Bind this process to the device that best matches that of a trial, given fields of `hpo.export.config.Config`.

    Call it before importing Keras: it selects the backend unless KERAS_BACKEND names another. A line on stderr lists
    differences, because they may change the results.
    """
    if backend and not os.environ.get("KERAS_BACKEND") and importlib.util.find_spec(backend):
        os.environ["KERAS_BACKEND"] = backend
    gpus = visible_gpus(warn=True)[:1] if device.get("gpu") else ()
    # Without a GPU, TensorFlow logs as an error that it cannot initialize CUDA.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if gpus else "3")
    cores = _as_many(usable_cores(), device.get("cores", 1))
    found = differences(device, backend, versions, cores.count, gpus)
    if found:
        print(f"trained with {', '.join(found)}: results may differ", file=sys.stderr)
    if cores.pinned and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores.usable)
    [like] = plan_slots(1, cores, gpus)
    bind(like)
    return replace(like, precision=cast(Precision, precision or "auto"))


def _as_many(cores: Cores, count: int) -> Cores:
    count = min(count, cores.count)
    return replace(cores, usable=cores.usable[:count] if cores.pinned else cores.usable, count=count)


def differences(
    device: Mapping[str, Any],
    backend: str | None,
    versions: Mapping[str, str],
    cores: int,
    gpus: Sequence[Gpu],
) -> list[str]:
    """Return the differences between the trial's environment and this one, such as `2 cores (here 1)`."""
    found = []
    if device.get("cores") != cores:
        found.append(f"{formatting.counted(device.get('cores'), 'core')} (here {cores})")
    if device.get("gpu") and not gpus:
        found.append(f"gpu {device['gpu']} (here none)")
    here = provenance.versions() | {"backend": provenance.backend()}
    trained = {name: versions[name] for name in (*PACKAGES, backend or "") if name in versions}
    trained |= {"backend": backend} if backend else {}
    return found + [
        f"{name} {version} (here {here.get(name, 'none')})"
        for name, version in trained.items()
        if here.get(name) != version
    ]
