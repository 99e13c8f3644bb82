"""The machine: its driver, its measured peak, and the arithmetic of a training image.

python -m bench.gpu.machine [--small]     # prints JSON, measured in a process of its own
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.report import Row
from hpo.devices.gpus import DriverFailedError, query_gpus
from hpo.devices.mps import find_mps
from objectives.keras_objective import KerasObjective

BACKWARD = 3
"""A training step takes about three times the operations of a forward pass: two products for the gradients."""
FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "compute_mode",
    "clocks.max.sm",
    "power.limit",
)
BATCH = 128
ROUNDS = 5


def driver() -> list[Row]:
    """Return the facts that the driver reports on each GPU; empty without one."""
    try:
        rows = query_gpus(*FIELDS)
    except DriverFailedError:
        return []
    mps = "on" if find_mps().is_on else "off"
    return [dict(zip(FIELDS, row, strict=True)) | {"mps": mps} for row in rows]


def peak(small: bool) -> Row:
    """Return TFLOP/s of a bfloat16 matrix product and GB/s of an addition, measured with JAX; the best of five."""
    import jax
    import jax.numpy as jnp

    size = 512 if small else 8192
    matrix = jnp.ones((size, size), jnp.bfloat16)
    product = _seconds(jax.jit(lambda a: a @ a), matrix)
    vector = jnp.ones((1 << (20 if small else 29),), jnp.float32)
    addition = _seconds(jax.jit(lambda a: a + 1), vector)
    return {
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "tflops": 2 * size**3 / product / 1e12,
        "gb_per_s": 2 * vector.nbytes / addition / 1e9,
    }


def _seconds(function: Callable[[Any], Any], argument: Any) -> float:
    function(argument).block_until_ready()
    found = []
    for _ in range(ROUNDS):
        began_at = time.perf_counter()
        function(argument).block_until_ready()
        found.append(time.perf_counter() - began_at)
    return min(found)


def flops_per_image(objective: KerasObjective) -> float:
    """Return the floating-point operations of training on one image, as XLA counts those of the forward pass."""
    import jax
    import numpy as np

    data = objective._data
    assert data is not None
    model = objective.build(dict(objective.first[0]), data)
    images = np.asarray(data.x_train[:BATCH])

    def forward(trained: Any, others: Any, inputs: Any) -> Any:
        return model.stateless_call(trained, others, inputs, training=False)[0]

    values = [
        [variable.value for variable in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    ]
    cost = jax.jit(forward).lower(*values, images).compile().cost_analysis()
    found = cost[0] if isinstance(cost, list) else cost
    return BACKWARD * float(found["flops"]) / len(images)


def main() -> None:
    """Print the peak of this machine, and the operations of an image of each objective, as soon as each is known."""
    from objectives.base import DataOptions
    from objectives.shipped.cifar_resnet import CifarResNet
    from objectives.shipped.mnist_cnn import MnistCNN

    found = peak("--small" in sys.argv)
    print(json.dumps(found), flush=True)
    for name, cls in {"mnist-cnn": MnistCNN, "cifar-resnet": CifarResNet}.items():
        objective = cls()
        objective.prepare(DataOptions(data_dir=os.environ["HPO_DATA_DIR"], limit=2 * BATCH), final=False)
        found[name] = flops_per_image(objective)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
