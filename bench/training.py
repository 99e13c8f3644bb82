"""Training throughput: the service's own loop against stock Keras `model.fit`, on the same models.

    HPO_DATA_DIR=data python -m bench.training [--rounds 3] [--cases mnist-cnn,cifar-resnet20]

Both sides train the same model on the same images in two processes at once, with the same optimizer,
batch size and validation images, and without augmentation:

- *stock*: `model.fit(x, y, validation_data=…)`, float32, Keras' own layers, default threads;
- *service*: the path of a trial: `prepare` once, a fork, `train` with a `Run`, one core each.

Rounds alternate between the sides, because other work on the machine slows whatever runs beside it.
Images per second are training images divided by the wall time from the end of the first epoch (before
it, TensorFlow compiles) to the end of the last, validation and checkpoints included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.base import DataOptions, Device, Params
from objectives.cifar_resnet import CifarResNet
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.mnist_cnn import MnistCNN

PROCESSES = 2
RESULTS = Path(__file__).parent / "results"
FORK = multiprocessing.get_context("fork")


class PlainMnistCNN(MnistCNN):
    """`mnist-cnn` without augmentation, which `model.fit` on arrays does not have."""

    augmentation = None


class ResNet20(CifarResNet):
    """`cifar-resnet` in the shape of ResNet-20, without augmentation."""

    augmentation = None
    widths, depth, stem, first_stride = (16, 32, 64), 3, 16, 1


class PlainCifarResNet(CifarResNet):
    """`cifar-resnet` as it is shipped, without augmentation."""

    augmentation = None


@dataclass(frozen=True)
class Case:
    """One model to train on both sides."""

    objective: type[KerasObjective]
    limit: int
    """Training images."""
    epochs: int
    params: Params


_SGD = {"optimizer": "sgd", "learning_rate": 0.1, "dropout": 0.0, "weight_decay": 5e-3, "batch_size": 128}
CASES = {
    "mnist-cnn": Case(PlainMnistCNN, 10_000, 6, dict(MnistCNN.first[0])),
    "cifar-resnet20": Case(ResNet20, 1_920, 4, _SGD),
    "cifar-resnet": Case(PlainCifarResNet, 1_920, 4, _SGD),
}


@dataclass(frozen=True)
class Measured:
    """What the processes of one side did in one round."""

    images_per_second: float
    """Of all processes together, by wall time."""
    images_per_cpu_second: float
    """Of one process, by its own processor time: what noise on the machine leaves alone."""
    val_accuracy: float


class TimedRun(LocalRun):
    """Notes when each epoch ended."""

    def report(self, **metrics: float) -> None:
        super().report(**metrics)
        self.ends.append(_now())


def _now() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def service(objective: KerasObjective, case: Case, index: int) -> tuple[list[tuple[float, float]], float]:
    """One trial in a slot of one core."""
    core = index % (os.cpu_count() or 1)
    os.sched_setaffinity(0, {core})
    run = TimedRun(total_epochs=case.epochs, seed=index, device=Device(f"cpu:{core}", cores=(core,)))
    run.ends = []
    objective.train(case.params, run)
    return run.ends, run.history[-1]["val_accuracy"]


def stock(objective: KerasObjective, case: Case, index: int) -> tuple[list[tuple[float, float]], float]:
    """What a script around `model.fit` does, with nothing set."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import keras

    keras.utils.set_random_seed(index)
    data = objective._data
    assert data is not None
    batch = case.params["batch_size"]
    model = objective.build(case.params, data)
    model.compile(
        objective.optimizer(case.params, len(data.x_train) // batch * case.epochs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ends: list[tuple[float, float]] = []
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


Side = Callable[[KerasObjective, Case, int], tuple[list[tuple[float, float]], float]]
SIDES: dict[str, Side] = {"stock": stock, "service": service}


def measure(side: Side, objective: KerasObjective, case: Case) -> Measured:
    """Train in all processes at once and add their rates up."""
    pipes, processes = [], []
    for index in range(PROCESSES):
        receiver, sender = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_child, args=(sender, side, objective, case, index))
        process.start()
        sender.close()
        pipes.append(receiver)
        processes.append(process)
    found = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    assert objective._data is not None
    images = len(objective._data.x_train) * (case.epochs - 1)
    walls = [ends[-1][0] - ends[0][0] for ends, _ in found]
    cpus = [ends[-1][1] - ends[0][1] for ends, _ in found]
    return Measured(
        sum(images / wall for wall in walls),
        statistics.mean(images / cpu for cpu in cpus),
        statistics.mean(accuracy for _, accuracy in found),
    )


def _child(sender: Any, side: Side, objective: KerasObjective, case: Case, index: int) -> None:
    sender.send(side(objective, case, index))
    sender.close()
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="mnist-cnn,cifar-resnet20")
    parser.add_argument("--sides", default="stock,service")
    options = parser.parse_args()
    for name in options.cases.split(","):
        case = CASES[name]
        objective = case.objective()
        objective.prepare(DataOptions(os.environ.get("HPO_DATA_DIR"), limit=case.limit), final=False)
        for _ in range(options.rounds):
            for side in options.sides.split(","):
                found = measure(SIDES[side], objective, case)
                print(name, side, json.dumps({k: round(v, 3) for k, v in asdict(found).items()}), flush=True)


if __name__ == "__main__":
    main()
