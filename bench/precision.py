"""What bfloat16 costs in accuracy: the same seeds in float32 and in bfloat16, in the service's own loop.

    HPO_DATA_DIR=data python -m bench.precision [--rounds 5] [--cases mnist-cnn,cifar-cnn,cifar-resnet]

Each seed (a round) trains the objective's first configuration, as it is shipped, in both precisions; only the layers'
arithmetic differs.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import replace

from bench.options import parser
from bench.report import Report, Row
from bench.training import Case, Host, forked, trial
from hpo.trainer.pool import template_environment
from objectives.base import Precision
from objectives.keras_objective import KerasObjective
from objectives.shipped.cifar_cnn import CifarCNN
from objectives.shipped.cifar_resnet import CifarResNet
from objectives.shipped.mnist_cnn import MnistCNN

CASES = {
    "mnist-cnn": Case(MnistCNN, 10_000, 6, MnistCNN.first[0], augmented=True),
    "cifar-cnn": Case(CifarCNN, 5_000, 8, CifarCNN.first[0], augmented=True),
    "cifar-resnet": Case(CifarResNet, 5_000, 8, CifarResNet.first[0], augmented=True),
}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def accuracy(objective: KerasObjective, case: Case, seed: int, precision: Precision) -> float:
    """Validation accuracy after the last epoch, of a trial in a process of its own on one core."""
    core = min(os.sched_getaffinity(0))
    _, found = forked(trial, objective, case, seed, core, precision)()
    return float(found)


def main() -> None:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--cases", default=",".join(CASES), help=", ".join(CASES))
    options = arguments.parse_args()
    report = Report("precision", "Accuracy of bfloat16 beside float32", options.quick)
    cases = {name: CASES[name] for name in options.cases.split(",")}
    if options.quick:
        cases = {name: replace(case, limit=512, epochs=2) for name, case in cases.items()}
    found: dict[str, dict[Precision, list[float]]] = {}
    for name, case in cases.items():
        host = Host(case, template_environment())
        found[name] = {precision: [] for precision in PRECISIONS}
        for seed in range(options.rounds):
            for precision, values in found[name].items():
                values.append(host.call(accuracy, seed, precision))
                print(name, seed, precision, round(values[-1], 4), flush=True)
            report.raw = found
            report.table(
                "Validation accuracy after the last epoch, mean ± standard deviation over seeds",
                [_row(each, cases[each], accuracies) for each, accuracies in found.items()],
            )
            report.keep()
        host.close()
    report.write()


def _row(name: str, case: Case, found: Mapping[Precision, list[float]]) -> Row:
    differences = [b - a for a, b in zip(found["float32"], found["bfloat16"], strict=True)]
    return {
        "objective": name,
        "training images": case.limit,
        "epochs": case.epochs,
        **{precision: _mean_sd(values) for precision, values in found.items()},
        "bfloat16 - float32, seed by seed": _mean_sd(differences),
        "n": len(differences),
    }


def _mean_sd(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.4f}"


if __name__ == "__main__":
    main()
