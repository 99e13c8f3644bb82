"""A job from a folder of photos to predictions: `hpo launch`, `hpo retrain`, `hpo predict`, one after the other.

    python -m bench.photos [--rounds 3] [--trials 6] [--objective image-resnet] [--quick]

The photos are those of the tests: 600 of three classes, shapes on noisy grounds, of 48 to 160 pixels a side, in five
formats. A second set of 150, made with another seed, is predicted at the end and compared with its classes.
"""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.options import parser
from bench.report import Report, Row, spread
from bench.sandbox import Sandbox
from tests.photos import make_photos

STUDY = ("--study", "photos")
SIDES = (48, 160)


@dataclass(frozen=True)
class Measured:
    """One round."""

    seconds: dict[str, float]
    """Wall time of each command."""
    cpu_seconds: float
    """Processor time of all commands and their processes."""
    test_accuracy: float
    """Accuracy of the retrained models on the test split, their mean."""
    new_accuracy: float
    """Accuracy of `hpo predict` on the photos of the second set."""


def measure(objective: str, trials: int, photos: int, new: int, seed: int) -> Measured:
    """Run the three commands on a new set of photos."""
    commands: dict[str, Sequence[object]] = {
        "launch": ("launch", *STUDY, "--objective", objective, "--data", "photos", "--trials", trials),
        "retrain": ("retrain", *STUDY),
        "predict": ("predict", *STUDY, "--output", "predictions.csv", "new"),
    }
    with Sandbox() as sandbox:
        make_photos(sandbox.folder / "photos", photos // 3, side=SIDES, seed=seed)
        make_photos(sandbox.folder / "new", new // 3, side=SIDES, seed=1_000 + seed)
        begun = _processor_seconds()
        seconds = {name: sandbox.run("-m", "hpo.cli", *command) for name, command in commands.items()}
        used = _processor_seconds() - begun
        metrics = json.loads((sandbox.folder / "results" / "photos" / "metrics.json").read_text("utf-8"))
        return Measured(
            seconds, used, _test_accuracy(metrics), _new_accuracy(sandbox.folder / "predictions.csv")
        )


def _processor_seconds() -> float:
    """Return the processor time of processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _test_accuracy(metrics: dict[str, Row]) -> float:
    return float(metrics["summary"]["test_accuracy"]["mean"])


def _new_accuracy(path: Path) -> float:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return sum(Path(row["path"]).parent.name == row["class"] for row in rows) / len(rows)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=6)
    arguments.add_argument("--objective", default="image-resnet")
    options = arguments.parse_args()
    photos, new, trials = (60, 15, 2) if options.quick else (600, 150, options.trials)
    report = Report("photos", "From a folder of photos to predictions", quick=options.quick)
    report.note(
        f"{photos} photos of 3 classes and {SIDES[0]} to {SIDES[1]} pixels a side, a fifth of them the test split;"
        f" {options.objective}, {trials} trials, 3 seeds; then {new} new photos. Another set in each round.",
        "Medians over the rounds, with minimum and maximum.",
    )
    found = []
    for seed in range(options.rounds):
        found.append(measure(options.objective, trials, photos, new, seed))
        print(found[-1], flush=True)
        report.table("From the folder to the predictions", [_row(found)])
        report.raw["rounds"] = [asdict(one) for one in found]
        report.keep()
    report.write()


def _row(found: Sequence[Measured]) -> Row:
    row: Row = {
        f"{name}, s": spread([one.seconds[name] for one in found])
        for name in ("launch", "retrain", "predict")
    }
    return row | {
        "all, s": spread([sum(one.seconds.values()) for one in found]),
        "processor, s": spread([one.cpu_seconds for one in found]),
        "test accuracy": spread([one.test_accuracy for one in found], 4),
        "accuracy on new photos": spread([one.new_accuracy for one in found], 4),
        "n": len(found),
    }


if __name__ == "__main__":
    main()
