"""Objectives that train nothing, so that what remains is the service's own cost."""

from __future__ import annotations

import os
import time
from pathlib import Path

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from bench.mnist_job import MnistPart
from objectives.base import Objective, Params, Run


class Nothing(Objective):
    """Reports a number and ends; the space is that of the MNIST job."""

    metric, direction = "loss", "minimize"
    space = MnistPart.space

    def train(self, params: Params, run: Run) -> None:
        for _ in run.epochs():
            run.report(loss=value(params))


class Waiting(Objective):
    """Waits for BENCH_SECONDS and notes in BENCH_FOLDER from when to when."""

    metric, direction = "loss", "minimize"
    epochs = 5
    space = {"x": FloatDistribution(0.0, 1.0)}

    def train(self, params: Params, run: Run) -> None:
        began = time.time()
        seconds = float(os.environ["BENCH_SECONDS"])
        for epoch in run.epochs():
            # Until a fixed moment: waiting for the agent's answer is part of the trial, not added to it.
            time.sleep(max(0.0, began + seconds * epoch / run.total_epochs - time.time()))
            run.report(loss=params["x"])
        name = f"span-{os.getpid()}-{time.time_ns()}"
        (Path(os.environ["BENCH_FOLDER"]) / name).write_text(f"{began} {time.time()}")


def choices(distribution: BaseDistribution) -> list[str | int]:
    """What a parameter may be that is one of several values."""
    assert isinstance(distribution, CategoricalDistribution)
    return list(distribution.choices)  # type: ignore[arg-type]


def value(params: Params) -> float:
    """Something to optimize."""
    return float((params["dropout"] - 0.3) ** 2 + abs(params["learning_rate"] - 1e-2))
