"""Training throughput: the service's loop against stock Keras `model.fit`, on the same models.

    HPO_DATA_DIR=data python -m bench.training [--rounds 5] [--cases mnist-cnn,cifar-resnet20] [--quick]

Both sides train the same model on the same images in two processes at once, with the same optimizer,
batch size and validation images, and without augmentation:

- *stock*: `model.fit(x, y, validation_data=…)`, float32, Keras' own layers, default threads;
- *service*: the path of a trial: `prepare` once in a template's environment, a fork, `train` with a `Run`, one
  core each.

Rounds alternate between the sides, because other work on the machine slows down processes. Each process of each round
has its own seed, the same on all sides. Images per second are training images divided by the wall time from the end of
the first epoch (TensorFlow compiles during it) to the end of the last, validation included; the service also gathers,
but does not write, the state for a checkpoint. The processor time of each process is less sensitive to other work.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.options import parser
from bench.report import Report, Row, spread
from hpo.trainer.template.interpreter import template_environment
from objectives.base import DataOptions, Params
from objectives.data.splits import Data
from objectives.device import Device, Precision
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.shipped.cifar_resnet import CifarResNet
from objectives.shipped.mnist_cnn import MnistCNN

if TYPE_CHECKING:
    import keras

PROCESSES = 2
KINDS = ("images_per_second", "images_per_cpu_second")
FORK, SPAWN = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
T = TypeVar("T")


class ResNet20(CifarResNet):
    """`cifar-resnet` with ResNet-20 as its model."""

    label_smoothing = 0.0

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.architectures import resnet

        return resnet(data, dropout=params["dropout"])


@dataclass(frozen=True)
class Case:
    """One model to train on both sides."""

    objective: type[KerasObjective]
    limit: int
    """Number of training images."""
    epochs: int
    params: Params


_SGD = {"optimizer": "sgd", "learning_rate": 0.1, "dropout": 0.0, "weight_decay": 5e-3, "batch_size": 128}
CASES = {
    "mnist-cnn": Case(MnistCNN, 10_000, 6, dict(MnistCNN.first[0])),
    "cifar-resnet20": Case(ResNet20, 1_920, 4, _SGD),
    "cifar-resnet": Case(CifarResNet, 1_920, 4, _SGD),
}


@dataclass(frozen=True)
class Measured:
    """Results of the processes of one side in one round."""

    images_per_second: float
    """Images per second of wall time, all processes together."""
    images_per_cpu_second: float
    """Images per second of processor time, per process; less sensitive to other work."""
    val_accuracy: list[float]
    """Validation accuracy of each process after the last epoch."""


Moment = tuple[float, float]
"""Wall time and processor time of the process, in seconds."""


@dataclass
class TimedRun(LocalRun):
    """Records the end of each epoch."""

    ends: list[Moment] = field(default_factory=list)

    def report(self, **metrics: float) -> None:
        super().report(**metrics)
        self.ends.append(_now())


def _now() -> Moment:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def trial(
    objective: KerasObjective, case: Case, seed: int, core: int, precision: Precision
) -> tuple[list[Moment], float]:
    """Train as a trainer pinned to `core`; return the end of each epoch and the last validation accuracy."""
    os.sched_setaffinity(0, {core})
    device = Device(f"cpu:{core}", cores=(core,), precision=precision)
    run = TimedRun(total_epochs=case.epochs, seed=seed, device=device)
    objective.train(case.params, run)
    return run.ends, run.history[-1]["val_accuracy"]


def service(
    objective: KerasObjective,
    case: Case,
    seed: int,
    precision: Precision = "auto",
) -> tuple[list[Moment], float]:
    """Train one trial in a slot of one core."""
    cores = sorted(os.sched_getaffinity(0))
    return trial(objective, case, seed, cores[seed % len(cores)], precision)


def stock(objective: KerasObjective, case: Case, seed: int) -> tuple[list[Moment], float]:
    """Train with `model.fit` and default settings."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import keras

    from objectives.training.loop import NOT_DECAYED

    keras.utils.set_random_seed(seed)
    data = objective._data
    assert data is not None
    batch = case.params["batch_size"]
    model = objective.build(case.params, data)
    # Keras' optimizer with the same schedule and settings as the service's faster twin.
    twin = objective.optimizer(case.params, len(data.x_train) // batch * case.epochs)
    own = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[case.params["optimizer"]]
    optimizer = own.from_config(twin.get_config())
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ends: list[Moment] = []
    timer = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(_now()))
    history = model.fit(
        data.x_train,
        data.y_train,
        validation_data=(data.x_valid, data.y_valid),
        batch_size=batch,
        epochs=case.epochs,
        callbacks=[timer],
        verbose=0,
    )
    return ends, history.history["val_accuracy"][-1]


def service_float32(objective: KerasObjective, case: Case, seed: int) -> tuple[list[Moment], float]:
    """Train as `service` does, without bfloat16."""
    return service(objective, case, seed, "float32")


Side = Callable[[KerasObjective, Case, int], tuple[list[Moment], float]]
SIDES: dict[str, Side] = {"stock": stock, "service float32": service_float32, "service": service}


class Host:
    """A process that has loaded a case's data once, and from which the rounds of a side are forked.

    The service's host has a template's environment, which its memory allocator reads only when a process starts.
    """

    def __init__(self, case: Case, environment: Mapping[str, str]) -> None:
        self._case = case
        self._environment = dict(environment)
        self._executor: ProcessPoolExecutor | None = None

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work(objective, case, …)` in the host, which forks only if `work` does."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, SPAWN, _prepare, (self._case,))
            caller = dict(os.environ)
            os.environ.update(self._environment)
            try:
                return self._executor.submit(_there, work, *arguments).result()
            finally:
                os.environ.clear()
                os.environ.update(caller)
        return self._executor.submit(_there, work, *arguments).result()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()


_prepared: list[tuple[KerasObjective, Case]] = []
"""Objective and case that a host has loaded."""


def _prepare(case: Case) -> None:
    objective = case.objective()
    # `model.fit` on arrays has no augmentation.
    objective.augmentation = None  # type: ignore[misc]
    objective.prepare(DataOptions(os.environ.get("HPO_DATA_DIR"), limit=case.limit), final=False)
    _prepared.append((objective, case))


def _there(work: Callable[..., T], *arguments: Any) -> T:
    return work(*_prepared[0], *arguments)


def measure(objective: KerasObjective, case: Case, name: str, round_number: int) -> Measured:
    """Train in all processes at once and add up their rates."""
    seeds = [round_number * PROCESSES + index for index in range(PROCESSES)]
    found = [answer() for answer in [forked(SIDES[name], objective, case, seed) for seed in seeds]]
    assert objective._data is not None
    images = len(objective._data.x_train) * (case.epochs - 1)
    walls = [ends[-1][0] - ends[0][0] for ends, _ in found]
    cpus = [ends[-1][1] - ends[0][1] for ends, _ in found]
    return Measured(
        sum(images / wall for wall in walls),
        statistics.mean(images / cpu for cpu in cpus),
        [accuracy for _, accuracy in found],
    )


def peaks(*_: object) -> dict[str, float]:
    """Return the peak operations per second of one thread, by type."""
    return {dtype: forked(peak, dtype)() for dtype in ("float32", "bfloat16")}


def operations(objective: KerasObjective, case: Case) -> float:
    """Return the number of operations of training on one image, counted in another process."""
    return float(forked(_operations, objective, case.params)())


def peak(dtype: str) -> float:
    """Measure operations per second of processor time of a large matrix product, on one thread."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    size = 1024
    matrix = tf.cast(tf.random.normal([size, size]), dtype)
    seconds = []
    for _ in range(30):
        began_at = _now()[1]
        tf.matmul(matrix, matrix)
        seconds.append(_now()[1] - began_at)
    return 2 * size**3 / statistics.median(seconds)


def _operations(objective: KerasObjective, params: Params) -> float:
    """Count two operations for each multiplication of a convolution or dense layer, in three passes."""
    import keras

    assert objective._data is not None
    count = 0
    for layer in objective.build(params, objective._data).layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            count += layer.kernel.shape.num_elements() * int(np.prod(layer.output.shape[1:-1]))
    return 6.0 * count


def forked(work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Start `work` in a forked process; return a function that waits for its result."""
    receiver, sender = FORK.Pipe(duplex=False)

    def run() -> None:
        sender.send(work(*arguments))
        sys.stdout.flush()
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    sender.close()

    def wait() -> Any:
        answer = receiver.recv()
        process.join()
        return answer

    return wait


def main() -> None:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--cases", default="mnist-cnn,cifar-resnet20", help=", ".join(CASES))
    options = arguments.parse_args()
    report = Report("training", "Training throughput", quick=options.quick)
    rows: list[Row] = []
    peak_rates: dict[str, float] = {}
    for name in options.cases.split(","):
        case = CASES[name]
        if options.quick:
            case = replace(case, limit=512, epochs=2)
        plain, template = Host(case, {}), Host(case, template_environment())
        peak_rates = peak_rates or plain.call(peaks)
        work = plain.call(operations)
        found: dict[str, list[Measured]] = {side: [] for side in SIDES}
        for round_number in range(options.rounds):
            for side, measured in found.items():
                host = plain if side == "stock" else template
                measured.append(host.call(measure, side, round_number))
                print(name, side, measured[-1], flush=True)
        plain.close()
        template.close()
        rows += _rows(name, found, work, peak_rates)
        report.raw[name] = {side: [asdict(one) for one in measured] for side, measured in found.items()}
    report.table("Two processes each, validation included, after the first epoch", rows)
    report.note(
        "Times stock: median ratio of the rounds, with minimum and maximum.",
        "Validation accuracy: mean ± standard deviation over the processes of all rounds, each with its own seed.",
        *(
            f"Peak of one core, matrix product, {dtype}: {value / 1e9:.0f} GFLOP/s."
            for dtype, value in peak_rates.items()
        ),
    )
    report.write()


def _rows(
    name: str, found: dict[str, list[Measured]], work: float, peak_rates: dict[str, float]
) -> list[Row]:
    rows: list[Row] = []
    base = found["stock"]
    for side, measured in found.items():
        wall, cpu = ([getattr(one, kind) for one in measured] for kind in KINDS)
        base_wall, base_cpu = ([getattr(one, kind) for one in base] for kind in KINDS)
        accuracies = [accuracy for one in measured for accuracy in one.val_accuracy]
        per_core = statistics.median(cpu) * work
        rows.append(
            {
                "model": name,
                "side": side,
                "images/s, both processes": spread(wall, 0),
                "times stock": spread([a / b for a, b in zip(wall, base_wall, strict=True)], 2),
                "images per CPU second": spread(cpu, 0),
                "times stock, CPU": spread([a / b for a, b in zip(cpu, base_cpu, strict=True)], 2),
                "share of fp32 peak": per_core / peak_rates["float32"],
                "share of bf16 peak": per_core / peak_rates["bfloat16"],
                "validation accuracy": f"{statistics.mean(accuracies):.4f} ± {statistics.stdev(accuracies):.4f}",
                "n": f"{len(measured)} rounds, {len(accuracies)} seeds",
            }
        )
    return rows


if __name__ == "__main__":
    main()
