"""What bfloat16 costs in accuracy: the same seeds in float32 and in bfloat16, in the service's own loop.

    HPO_DATA_DIR=data python -m bench.precision [--seeds 5] [--cases mnist-cnn,cifar-cnn]

Each seed trains the objective's first configuration, as it is shipped, in both precisions; only the layers'
arithmetic differs. Written to `bench/results/precision-<case>.json`, with means and standard deviations.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from typing import Any

from bench.report import RESULTS
from bench.training import FORK
from objectives.base import DataOptions, Device
from objectives.cifar_cnn import CifarCNN
from objectives.cifar_resnet import CifarResNet
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.mnist_cnn import MnistCNN

CASES: dict[str, tuple[type[KerasObjective], int, int]] = {
    "mnist-cnn": (MnistCNN, 10_000, 3),
    "cifar-cnn": (CifarCNN, 5_000, 4),
    "cifar-resnet": (CifarResNet, 5_000, 4),
}
"""Objective, training images, epochs."""


def accuracy(objective: KerasObjective, epochs: int, seed: int, precision: Any) -> float:
    """Validation accuracy after the last epoch, of a trial in a process of its own on one core."""
    receiver, sender = FORK.Pipe(duplex=False)

    def trial() -> None:
        run = LocalRun(epochs, seed=seed, device=Device(cores=(0,), precision=precision))
        objective.train(dict(objective.first[0]), run)
        sender.send(run.history[-1]["val_accuracy"])
        sys.stdout.flush()
        os._exit(0)

    process = FORK.Process(target=trial)
    process.start()
    sender.close()
    found: float = receiver.recv()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", default="mnist-cnn,cifar-cnn")
    options = parser.parse_args()
    for name in options.cases.split(","):
        cls, limit, epochs = CASES[name]
        objective = cls()
        objective.prepare(DataOptions(os.environ.get("HPO_DATA_DIR"), limit=limit), final=False)
        found: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        for seed in range(options.seeds):
            for precision, values in found.items():
                values.append(accuracy(objective, epochs, seed, precision))
                print(name, seed, precision, round(values[-1], 4), flush=True)
        table = {
            precision: {"mean": statistics.mean(values), "sd": statistics.stdev(values)}
            for precision, values in found.items()
        }
        RESULTS.mkdir(exist_ok=True)
        content = {
            "case": name,
            "train_images": limit,
            "epochs": epochs,
            "n": options.seeds,
            **table,
            "values": found,
        }
        (RESULTS / f"precision-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(name, {p: (round(t["mean"], 4), round(t["sd"], 4)) for p, t in table.items()}, flush=True)


if __name__ == "__main__":
    main()
