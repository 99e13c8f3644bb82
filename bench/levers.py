"""What each lever of the training loop is worth: all of them, and all but one, side by side.

    HPO_DATA_DIR=data python -m bench.levers [--rounds 5] [--cases mnist-cnn,cifar-resnet]

A variant is a process of its own, pinned to one core, that trains batches of an epoch again and again; all variants
take turns, so that a slow minute of the machine hits all. Shown is how many images a second each trains of
those that the loop as it is trains in the same round: below 1, the lever that is left out is worth having.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.options import parser
from bench.report import Report, Row, spread
from bench.training import CASES, Case, Host
from hpo.trainer.pool import template_environment
from objectives.base import Device
from objectives.keras_objective import KerasObjective

BATCHES = 16
"""In one call, which is one measurement."""
CALLS = 3
"""A round."""


def _stock_layers(*names: str) -> Callable[[], None]:
    def change() -> None:
        import keras

        from objectives.training import layers

        for name in names:
            layers._TWINS.pop(getattr(keras.layers, name))

    return change


def _stock_optimizers() -> None:
    import keras

    from objectives.training import loop

    vars(loop).update(FusedAdam=keras.optimizers.Adam, FusedSGD=keras.optimizers.SGD)


def _stock_filter_gradients() -> None:
    from objectives.backend import kernels

    kernels.takes_patches = lambda *_: False


@dataclass(frozen=True)
class Variant:
    """The loop with something changed."""

    name: str
    change: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    precision: Any = "auto"
    compiled: bool = False
    """By XLA."""
    one_by_one: bool = False
    """A call a batch, in place of one for many."""


VARIANTS = (
    Variant("the loop as it is"),
    Variant("float32 in place of bfloat16", precision="float32"),
    Variant("Keras' batch normalization", _stock_layers("BatchNormalization")),
    Variant("Keras' dropout", _stock_layers("Dropout")),
    Variant("Keras' optimizers", _stock_optimizers),
    Variant("oneDNN's filter gradients everywhere", _stock_filter_gradients),
    Variant("memory pages of 4 KiB", environment={"GLIBC_TUNABLES": ""}),
    Variant("a call for each batch", one_by_one=True),
    Variant("XLA", compiled=True),
    Variant(
        "float32, with ONEDNN_DEFAULT_FPMATH_MODE=BF16",
        environment={"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
        precision="float32",
    ),
    Variant(
        "float32, with TF_ENABLE_ONEDNN_OPTS=0",
        environment={"TF_ENABLE_ONEDNN_OPTS": "0"},
        precision="float32",
    ),
)

_call: list[Callable[[], Any]] = []
"""In a variant's process: trains `BATCHES` batches."""


def build(objective: KerasObjective, case: Case, name: str) -> None:
    """Make a variant's model and train its first batches, which compiles it."""
    from objectives import backend
    from objectives.training import layers, loop

    variant = next(variant for variant in VARIANTS if variant.name == name)
    core = sorted(os.sched_getaffinity(0))[0]
    os.sched_setaffinity(0, {core})
    device = Device(f"cpu:{core}", cores=(core,), precision=variant.precision)
    if variant.compiled:
        # Keras compiles nothing where operations must be deterministic.
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    else:
        backend.configure(device, seed=1)
    if variant.change is not None:
        variant.change()
    data = objective._data
    assert data is not None
    model = layers.accelerated(objective.build(case.params, data), backend.precision(device))
    model.compile(
        objective.optimizer(case.params, 10_000),
        loss=loop.cross_entropy(objective.label_smoothing),
        metrics=["accuracy"],
        jit_compile=variant.compiled,
    )
    size = case.params["batch_size"]
    chosen = np.arange(BATCHES * size).reshape(BATCHES, size) % len(data.x_train)
    images, labels = data.x_train[chosen], data.y_train[chosen]
    if variant.one_by_one:
        _call.append(lambda: [model.train_on_batch(*batch) for batch in zip(images, labels, strict=True)])
    else:
        steps = backend.training_steps(model)
        _call.append(lambda: steps((images, labels)))
    _call[0]()


def train(_objective: KerasObjective, case: Case) -> float:
    """Images a second, the best of a few calls."""
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        _call[0]()
        seconds.append(time.perf_counter() - began)
    return float(BATCHES * case.params["batch_size"] / min(seconds))


def main() -> None:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--cases", default="mnist-cnn,cifar-resnet", help=", ".join(CASES))
    options = arguments.parse_args()
    report = Report("levers", "What each lever of the training loop is worth", options.quick)
    report.note(
        f"A rate is the best of {CALLS} calls of {BATCHES} batches; validation and checkpoints are not in it."
    )
    for name in options.cases.split(","):
        case = replace(CASES[name], limit=512) if options.quick else CASES[name]
        hosts = {
            variant.name: Host(case, template_environment() | dict(variant.environment))
            for variant in VARIANTS
        }
        found: dict[str, list[float]] = {}
        for variant, host in hosts.items():
            host.call(build, variant)
        for _ in range(options.rounds):
            for variant, host in hosts.items():
                found.setdefault(variant, []).append(host.call(train))
            print(name, {variant: round(rates[-1]) for variant, rates in found.items()}, flush=True)
            report.raw[name] = found
            report.table(f"{name}, batches of {case.params['batch_size']}, one core", _rows(found))
            report.keep()
        for host in hosts.values():
            host.close()
    report.write()


def _rows(found: Mapping[str, list[float]]) -> list[Row]:
    base = found[VARIANTS[0].name]
    return [
        {
            "variant": variant,
            "images/s": spread(rates, 0),
            "times the loop as it is": spread([a / b for a, b in zip(rates, base, strict=True)], 2),
            "n": len(rates),
        }
        for variant, rates in found.items()
    ]


if __name__ == "__main__":
    main()
