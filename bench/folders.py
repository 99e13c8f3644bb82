"""CIFAR-10 as a folder of PNG files, tuned with `image-resnet`, against its arrays, tuned with `cifar-resnet`.

    HPO_DATA_DIR=data python -m bench.folders [--rounds 3] [--images 10000] [--quick]

Both train the same network on the same images with the same parameters and seeds: those of the arrays are written as
`train/<class>/<number>.png` and `val/<class>/<number>.png`. They differ in one thing: a folder is read class by class,
so that a seed shuffles other images into a batch. A third contestant reads the folder and puts its training rows into
the order of the arrays; its losses and accuracies have to be those of the arrays to the last digit.

Rounds alternate between the contestants, each alone on one core, with validation and checkpoints' state, from the end
of the first epoch to that of the last.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bench.options import parser
from bench.report import Report, Row, spread
from bench.training import SPAWN, Case, TimedRun, forked
from hpo.trainer.template.interpreter import template_environment
from objectives.base import DataOptions, Params
from objectives.data.splits import Data
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.shipped.cifar_resnet import CifarResNet
from objectives.shipped.image_resnet import ImageResNet

PARAMS: Params = dict(CifarResNet.first[0])
ARRAYS, FOLDER, ORDERED = "arrays, cifar-resnet", "folder, image-resnet", "folder in the order of the arrays"
TEST_IMAGES = 100
"""Number of test images in the folder, so that none are taken from the training images; no trial reads them."""


@dataclass(frozen=True)
class Measured:
    """One run."""

    images_per_second: float
    images_per_cpu_second: float
    history: list[dict[str, float]]
    """Loss and accuracy of each epoch, in training and validation."""

    @property
    def exact(self) -> list[tuple[float, ...]]:
        """All numbers but the validation loss, a mean whose last digit depends on the order of the validation rows."""
        return [tuple(value for name, value in epoch.items() if name != "val_loss") for epoch in self.history]


def case_of(images: int, epochs: int) -> Case:
    return Case(CifarResNet, images, epochs, PARAMS)


def write_folder(folder: Path, data: Data, test: Data) -> None:
    """Write the images as PNG, numbered within their splits."""
    from PIL import Image

    splits = {
        "train": (data.x_train, data.y_train),
        "val": (data.x_valid, data.y_valid),
        "test": (test.x_test[:TEST_IMAGES], test.y_test[:TEST_IMAGES]),  # type: ignore[index]
    }
    for split, (images, labels) in splits.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / data.classes[label] / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def in_order(data: Data, labels: np.ndarray) -> Data:
    """Return the data of the folder with the training images in the order of the arrays, whose labels these are."""
    place = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
    return replace(data, x_train=data.x_train[place], y_train=data.y_train[place])


_hosted: dict[str, tuple[KerasObjective, Case]] = {}
"""Objectives that this process has prepared, by contestant."""


def prepare(folder: Path, images: int, epochs: int) -> None:
    """Prepare all contestants in a host, from which the runs are forked."""
    options = DataOptions(os.environ.get("HPO_DATA_DIR"), limit=images)
    arrays, whole = CifarResNet(), CifarResNet()
    arrays.prepare(options, final=False)
    whole.prepare(options, final=True)
    assert arrays._data is not None
    assert whole._data is not None
    write_folder(folder / "images", arrays._data, whole._data)
    found, ordered = ImageResNet(), ImageResNet()
    found.prepare(DataOptions(source=str(folder / "images"), cache_dir=str(folder / "cache")), final=False)
    assert found._data is not None
    ordered._data = in_order(found._data, arrays._data.y_train)
    assert (ordered._data.x_train == arrays._data.x_train).all()
    case = case_of(images, epochs)
    for name, objective in ((ARRAYS, arrays), (FOLDER, found), (ORDERED, ordered)):
        _hosted[name] = (objective, case)


def measure(name: str, seed: int) -> Measured:
    """Train once in a fork of this host."""
    return forked(_train, *_hosted[name], seed)()  # type: ignore[no-any-return]


def _train(objective: KerasObjective, case: Case, seed: int) -> Measured:
    core = sorted(os.sched_getaffinity(0))[0]
    os.sched_setaffinity(0, {core})
    run = TimedRun(total_epochs=case.epochs, seed=seed, device=Device(f"cpu:{core}", cores=(core,)))
    objective.train(case.params, run)
    (wall, cpu), (last_wall, last_cpu) = run.ends[0], run.ends[-1]
    assert objective._data is not None
    images = len(objective._data.x_train) * (case.epochs - 1)
    kept = ("loss", "accuracy", "val_loss", "val_accuracy")
    history = [{key: metrics[key] for key in kept} for metrics in run.history]
    return Measured(images / (last_wall - wall), images / (last_cpu - cpu), history)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=10_000)
    options = arguments.parse_args()
    images, epochs = (500, 2) if options.quick else (options.images, 5)
    report = Report("folders", "CIFAR-10 as a folder of PNG files", quick=options.quick)
    report.note(
        f"{images:,} training images, {epochs} epochs, {PARAMS}; seeds 0 to {options.rounds - 1}.",
        "Times arrays: median ratio of the rounds, with minimum and maximum.",
        "Same numbers: losses and accuracies of all epochs, to the last digit, but for the validation loss, a mean over"
        " rows in another order. They differ where image-resnet fills with another level than cifar-resnet.",
    )
    found: dict[str, list[Measured]] = {ARRAYS: [], FOLDER: [], ORDERED: []}
    os.environ.update(template_environment())
    with tempfile.TemporaryDirectory(prefix="hpo-bench-") as folder, ProcessPoolExecutor(1, SPAWN) as host:
        host.submit(prepare, Path(folder), images, epochs).result()
        for seed in range(options.rounds):
            for name, measured in found.items():
                # Its numbers are either the same or not.
                if name != ORDERED or seed == 0:
                    measured.append(host.submit(measure, name, seed).result())
                    print(name, seed, measured[-1], flush=True)
            report.table("One run at a time, on one core", _rows(found))
            report.raw = {name: [asdict(one) for one in measured] for name, measured in found.items()}
            report.keep()
    report.write()


def _rows(found: dict[str, list[Measured]]) -> list[Row]:
    arrays = found[ARRAYS]
    rows: list[Row] = []
    for name, runs in found.items():
        last = [run.history[-1]["val_accuracy"] for run in runs]
        pairs = list(zip(runs, arrays, strict=False))
        rows.append(
            {
                "contestant": name,
                "validation accuracy": f"{statistics.mean(last):.4f} ({min(last):.4f}–{max(last):.4f})",
                "images/s": spread([run.images_per_second for run in runs]),
                "times arrays": spread([a.images_per_second / b.images_per_second for a, b in pairs], 3),
                "images per CPU second": spread([run.images_per_cpu_second for run in runs]),
                "times arrays, CPU": spread(
                    [a.images_per_cpu_second / b.images_per_cpu_second for a, b in pairs], 3
                ),
                "same numbers": all(a.exact == b.exact for a, b in pairs),
                "n": len(runs),
            }
        )
    return rows


if __name__ == "__main__":
    main()
