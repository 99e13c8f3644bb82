"""Which network learns most from CIFAR-10 in the same time: width and depth, and with and without skip connections.

    HPO_DATA_DIR=data python -m bench.shapes [--rounds 2] [--seconds 300]

Each network is trained by `cifar-resnet`'s recipe and first configuration (schedule, augmentation, label smoothing)
for as many epochs as fit in the same processor time of one core. A few epochs on fewer images tell beforehand how many
those are, so each comes down to the end of its learning rate schedule. One network on each core of the machine at a
time; a round is a seed.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.options import parser
from bench.report import Report, Row, spread
from bench.training import Case, Host, Moment, forked, trial
from hpo.trainer.pool import template_environment
from objectives.base import Params
from objectives.data.splits import Data
from objectives.keras_objective import KerasObjective
from objectives.shipped.cifar_resnet import CifarResNet

if TYPE_CHECKING:
    import keras

SAMPLE = 1_920
"""Images of the epochs that tell how long one takes."""

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "`cifar-resnet`: pooled, 32-64-128-256, blocks 1-1-1": ("pooled_resnet", {}),
    "half as wide: 16-32-64-128": ("pooled_resnet", {"stem": 16, "widths": (32, 64, 128)}),
    "twice as wide: 64-128-256-512": ("pooled_resnet", {"stem": 64, "widths": (128, 256, 512)}),
    "no block in the middle, as Page has it: 1-0-1": ("pooled_resnet", {"depths": (1, 0, 1)}),
    "no block, so no skip connection": ("pooled_resnet", {"depths": (0, 0, 0)}),
    "ResNet-20: strided, 16-32-64, blocks 3-3-3": ("resnet", {}),
    "ResNet-14 twice as wide: strided, 32-64-128, blocks 2-2-2": (
        "resnet",
        {"widths": (32, 64, 128), "depth": 2},
    ),
}
"""Function of `objectives.architectures` and its arguments, by what is shown."""


class Shaped(CifarResNet):
    """`cifar-resnet` with the network that `params["shape"]` names."""

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives import architectures

        function, arguments = SHAPES[params["shape"]]
        made: Callable[..., keras.Model] = getattr(architectures, function)
        return made(data, dropout=params["dropout"], **arguments)


@dataclass(frozen=True)
class Trained:
    """One network from one seed."""

    seed: int
    parameters: int
    epochs: int
    images_per_cpu_second: float
    """Validation included; after the first epoch, in which TensorFlow compiles."""
    cpu_seconds: float
    """Of all epochs, as if the first had not compiled."""
    val_accuracy: float


def _trial(objective: KerasObjective, case: Case, seed: int, core: int) -> tuple[list[Moment], float]:
    found: tuple[list[Moment], float] = forked(trial, objective, case, seed, core, "auto")()
    return found


def _parameters(objective: KerasObjective, case: Case) -> int:
    return int(forked(_count, objective, case.params)())


def _count(objective: KerasObjective, params: Params) -> int:
    assert objective._data is not None
    return int(objective.build(params, objective._data).count_params())


def _epoch_seconds(ends: list[Moment]) -> float:
    """Processor time of an epoch after the first."""
    return (ends[-1][1] - ends[0][1]) / (len(ends) - 1)


def train(shape: str, seed: int, core: int, images: int, seconds: float) -> Trained:
    """As many epochs as fit in `seconds` of processor time."""
    sample = min(SAMPLE, images)
    case = Case(Shaped, sample, 3, CifarResNet.first[0] | {"shape": shape}, augmented=True)
    environment = template_environment()
    sampling = Host(case, environment)
    ends, _ = sampling.call(_trial, seed, core)
    parameters = sampling.call(_parameters)
    sampling.close()
    epochs = max(2, round(seconds / (_epoch_seconds(ends) * images / sample)))
    host = Host(replace(case, limit=images, epochs=epochs), environment)
    ends, accuracy = host.call(_trial, seed, core)
    host.close()
    each = _epoch_seconds(ends)
    return Trained(seed, parameters, epochs, images / each, each * epochs, accuracy)


def main() -> None:
    arguments = parser(__doc__, rounds=2)
    arguments.add_argument("--seconds", type=float, default=300.0, help="processor time of each training")
    arguments.add_argument("--images", type=int, default=15_000, help="to train on")
    options = arguments.parse_args()
    if options.quick:
        options.images, options.seconds = 512, 3.0
    report = Report("shapes", "What networks learn from CIFAR-10 in the same time", options.quick)
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    cores = os.sched_getaffinity(0)
    for core in cores:
        free.put(core)

    def on_a_free_core(shape: str, seed: int) -> Trained:
        core = free.get()
        try:
            found = train(shape, seed, core, options.images, options.seconds)
        finally:
            free.put(core)
        print(shape, found, flush=True)
        return found

    report.note(
        "`cifar-resnet`'s recipe and first configuration for all, with no learning rate of their own.",
        "Accuracy on validation images after the last epoch: median of seeds, with the lowest and the highest.",
    )
    found: dict[str, list[Trained]] = {}
    with ThreadPoolExecutor(len(cores)) as pool:
        runs = {
            pool.submit(on_a_free_core, shape, seed): shape
            for seed in range(options.rounds)
            for shape in SHAPES
        }
        for run in as_completed(runs):
            found.setdefault(runs[run], []).append(run.result())
            report.table(
                f"{options.images:,} images, {options.seconds:.0f} s of one core's time each",
                _rows({shape: found[shape] for shape in SHAPES if shape in found}),
            )
            report.raw = {shape: [asdict(one) for one in all_] for shape, all_ in found.items()}
            report.keep()
    report.write()


def _rows(found: dict[str, list[Trained]]) -> list[Row]:
    rows: list[Row] = []
    for shape, runs in found.items():
        accuracies = [run.val_accuracy for run in runs]
        rows.append(
            {
                "network": shape,
                "parameters": runs[0].parameters,
                "images per CPU second": spread([run.images_per_cpu_second for run in runs], 0),
                "epochs": spread([run.epochs for run in runs], 0),
                "CPU seconds": spread([run.cpu_seconds for run in runs], 0),
                "validation accuracy": spread(accuracies, 4),
                "n": len(runs),
            }
        )
    return rows


if __name__ == "__main__":
    main()
