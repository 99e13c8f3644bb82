"""Arguments of a peer's script, and its data, which is that of the service's objective."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.jobs import mnist_job
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.data import arrays
from objectives.data.splits import Data, split


def options() -> argparse.Namespace:
    """Parse the arguments of a contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objective", default="MnistPart")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--known-good", action="store_true")
    return parser.parse_args()


def load(objective: str) -> tuple[Data, Augmentation | None]:
    """Return the split images and the augmentation of the service's objective."""
    cls: type[mnist_job.MnistPart] = getattr(mnist_job, objective)
    loaded = arrays.call(cls.dataset, None, test=False)
    data = split(loaded, DataOptions(validation_fraction=cls.validation_fraction), final=False)
    return data, cls.augmentation
