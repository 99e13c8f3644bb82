"""Training an exported configuration again: as its trial was trained, as far as this host can."""

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
from hpo.devices.gpus import Gpu, visible_gpus
from hpo.devices.slots import plan_slots, usable_cores
from objectives.backend import bind
from objectives.base import Device, Precision

PACKAGES = ("hpo-service", "keras", "numpy")
"""That training depends on, beside its backend."""


def match_device(
    device: Mapping[str, Any], precision: str | None, backend: str | None, versions: Mapping[str, str]
) -> Device:
    """What of this host is most like that which trained a trial: all of it as `hpo.export.config.Config` has it.

    This process is bound to it, as a trainer is, and uses the backend unless KERAS_BACKEND names another: call it
    before Keras is imported. A line on stderr says what differs, for then the figures may too.
    """
    if backend and not os.environ.get("KERAS_BACKEND") and importlib.util.find_spec(backend):
        os.environ["KERAS_BACKEND"] = backend
    gpus = visible_gpus(warn=True)[:1] if device.get("gpu") else ()
    cores = usable_cores()[: device.get("cores", 1)]
    found = differences(device, backend, versions, cores, gpus)
    if found:
        print(f"trained with {', '.join(found)}: figures may differ", file=sys.stderr)
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
    [like] = plan_slots(1, cores, gpus)
    bind(like)
    return replace(like, precision=cast(Precision, precision or "auto"))


def differences(
    device: Mapping[str, Any],
    backend: str | None,
    versions: Mapping[str, str],
    cores: Sequence[int],
    gpus: Sequence[Gpu],
) -> list[str]:
    """What trained a trial and is otherwise here, as `2 cores (here 1)`."""
    found = []
    if device.get("cores") != len(cores):
        found.append(f"{formatting.counted(device.get('cores'), 'core')} (here {len(cores)})")
    if device.get("gpu") and not gpus:
        found.append(f"gpu {device['gpu']} (here none)")
    here = provenance.versions() | {"backend": provenance.backend()}
    then = {name: versions[name] for name in (*PACKAGES, backend or "") if name in versions}
    then |= {"backend": backend} if backend else {}
    return found + [
        f"{name} {was} (here {here.get(name, 'none')})" for name, was in then.items() if here.get(name) != was
    ]
