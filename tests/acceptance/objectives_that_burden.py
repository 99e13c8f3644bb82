"""Objectives that overload their host: they print too much, or exceed their memory limit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from optuna.distributions import CategoricalDistribution

from objectives.base import DataOptions, Objective, Params, Run

GATE = Path(os.environ.get("TEST_GATE", "/"))
"""File for which `Loud` waits in its second epoch, so that a test can inspect the first."""

RAW = b"NUL \0, not UTF-8 \xff, UTF-8 caf\xc3\xa9"


class Loud(Objective):
    """Prints as its parameter determines in the first epoch, and a line in each."""

    metric, direction, epochs = "loss", "minimize", 3
    space = {"prints": CategoricalDistribution(["raw", "much", "flood", "little"])}

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            if epoch == 1:
                self.print(params["prints"])
            os.write(1, f"epoch {epoch} has ended\n".encode())
            while epoch == 2 and not GATE.exists():
                run.tick(0, 1)
                time.sleep(0.02)
            run.report(loss=1.0 / epoch)

    def print(self, amount: str) -> None:
        match amount:
            case "raw":
                os.write(1, RAW + b"\n")
            case "much":
                for line in range(3000):
                    os.write(1, f"line {line:5} of {'many ' * 8}\n".encode())
            case "flood":
                for _ in range(9):
                    os.write(1, b"x" * (1 << 20))


class LoudWhenLoaded(Loud):
    """Prints a flood while it loads."""

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: ARG002 - the contract's signature
        self.print("flood")
        if "TEST_GATE" not in os.environ:
            raise ValueError("there is no gate")


class Greedy(Objective):
    """Allocates 2 GiB in the greedy trial."""

    metric, direction, epochs = "loss", "minimize", 2
    space = {"greedy": CategoricalDistribution(["no", "yes"])}
    first = [{"greedy": "no"}, {"greedy": "yes"}, {"greedy": "no"}]

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            kept = np.ones(2 << 30 if params["greedy"] == "yes" else 1 << 20, dtype=np.uint8)
            run.report(loss=float(kept[0]) / epoch)
