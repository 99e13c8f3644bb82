"""Where the training examples of a run lie: on the GPU if they fit next to the model, else in the host's memory."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras

from objectives import backend
from objectives.augment import Augmentation
from objectives.backend.base import Steps
from objectives.training.batches.device import bytes_of, resident, streamed, upload
from objectives.training.batches.host import Advance, Variation, has_text, hosted

if TYPE_CHECKING:
    from objectives.base import Run
    from objectives.data.splits import Data
    from objectives.device import Device

Place = Literal["gpu", "streamed", "host"]
"""Examples on the GPU; in the host's memory, changed on the GPU; or in the host's memory, changed there."""

MOST_SHARE = 0.5
"""Largest share of a memory that examples may take: the need of a model is an estimate."""
UNKNOWN_BYTES = 2**30
"""Largest size of examples that lie on a GPU whose memory is unknown."""

_STATES = 4
"""Copies of the weights: themselves, their gradients and the two moments of Adam."""
_ACTIVATIONS = 3
"""Copies of the activations: kept for the gradients, the gradients themselves, and workspaces of the kernels."""


def advancing(
    model: keras.Model,
    data: Data,
    variation: Variation,
    run: Run,
    batch_size: int,
    steps: Steps | None = None,
) -> Advance:
    """Return the function that trains a compiled model; `steps` are its `host_steps`, made before."""
    lane = backend.lane.current()

    def found() -> tuple[Place, str]:
        return _with_upload(model, data, variation, run.device, batch_size)

    # One program serves all lanes, whose examples lie in one place.
    place, reason = found() if lane is None else lane.decide(found)
    if place == "gpu":
        return resident(model, data, variation)
    if place == "streamed":
        run.log(f"training examples are streamed to the GPU: {reason}")
        return streamed(model, data, variation)
    return hosted(model, data, variation, steps)


def _with_upload(
    model: keras.Model, data: Data, variation: Variation, device: Device, batch_size: int
) -> tuple[Place, str]:
    """Return what `placed` returns, once the examples lie there."""
    place, reason = placed(model, data, variation, device, batch_size)
    if place == "gpu":
        try:
            upload(data)
        except Exception as exc:
            # Another process may have taken the memory.
            if not backend.is_out_of_memory(exc):
                raise
            return "streamed", "the GPU has no room for them now"
    return place, reason


def placed(
    model: keras.Model, data: Data, variation: Variation, device: Device, batch_size: int
) -> tuple[Place, str]:
    """Return the place of the examples of a run, and the reason why they are not on its GPU."""
    # A user's own subclass of Augmentation can only be called, on the host, where strings are too.
    known = type(variation.augmentation) in (Augmentation, type(None))
    if device.gpu is None or not known or has_text(data.x_train):
        return "host", ""
    size = bytes_of(data)
    found = [device.gpu_usable_bytes, backend.current().gpu_bytes()]
    room = min((one for one in found if one is not None), default=None)
    if room is None:
        reason = f"they take {_gib(size)}, and the memory of the GPU is unknown"
        return ("gpu", "") if size <= UNKNOWN_BYTES else ("streamed", reason)
    lane = backend.lane.current()
    need = training_bytes(model, batch_size) * (1 if lane is None else lane.width)
    if size > min(room - need, MOST_SHARE * room):
        model_needs = f" and the model about {_gib(need)}"
        return "streamed", f"they take {_gib(size)}{model_needs}, and the slot has {_gib(room)}"
    # The framework makes a copy in the host's memory first.
    copies = min(_host_bytes(device), default=math.inf)
    if size > copies:
        return (
            "streamed",
            f"they take {_gib(size)}, and a copy of them may take {_gib(copies)} of the host's memory",
        )
    return "gpu", ""


def training_bytes(model: keras.Model, batch_size: int) -> int:
    """Return an estimate of the memory that training steps of a built model take, without their examples."""
    weights = sum(_bytes(variable.shape, variable.dtype) for variable in model.variables)
    outputs = sum(_output_bytes(layer) for layer in model._flatten_layers(include_self=False))
    return _STATES * weights + _ACTIVATIONS * batch_size * outputs


def _output_bytes(layer: Any) -> int:
    """Return the size of a layer's output for one example; 0 if it is unknown, as in models of your own class."""
    with suppress(AttributeError, ValueError, TypeError):
        return sum(
            _bytes(tensor.shape[1:], layer.compute_dtype) for tensor in keras.tree.flatten(layer.output)
        )
    return 0


def _bytes(shape: Iterable[int | None], dtype: Any) -> int:
    return math.prod(size or 1 for size in shape) * _WIDTHS.get(keras.backend.standardize_dtype(dtype), 4)


_WIDTHS = {"bfloat16": 2, "float16": 2, "uint8": 1, "int8": 1, "bool": 1, "float64": 8, "int64": 8}


def _host_bytes(device: Device) -> Iterable[float]:
    """Yield limits of the memory that this process may take in the host for a copy of the examples."""
    if device.host_memory_bytes is not None:
        yield MOST_SHARE * device.host_memory_bytes
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY and sys.platform.startswith("linux"):
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        yield MOST_SHARE * max(0, limit - used)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
