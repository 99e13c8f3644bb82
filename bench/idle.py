"""Objectives that do not train, so that a measurement shows the service's own cost."""

from __future__ import annotations

import os
import time
from pathlib import Path

from optuna.distributions import CategoricalDistribution, FloatDistribution

from bench.jobs.mnist_job import MnistPart
from objectives.base import Objective, Params, Run


class Nothing(Objective):
    """Reports a number and ends; the space is that of the MNIST job."""

    metric, direction = "loss", "minimize"
    space = MnistPart.space

    def train(self, params: Params, run: Run) -> None:
        for _ in run.epochs():
            run.report(loss=value(params))


class Waiting(Objective):
    """Waits for BENCH_SECONDS and writes begin and end to BENCH_FOLDER."""

    metric, direction = "loss", "minimize"
    epochs = 5
    space = {"x": FloatDistribution(0.0, 1.0)}

    def train(self, params: Params, run: Run) -> None:
        began_at = time.time()
        seconds = float(os.environ["BENCH_SECONDS"])
        for epoch in run.epochs():
            # Until a fixed moment, so that waiting for the agent's reply is part of the trial, not added to it.
            time.sleep(max(0.0, began_at + seconds * epoch / run.total_epochs - time.time()))
            run.report(loss=params["x"])
        name = f"span-{os.getpid()}-{time.time_ns()}"
        (Path(os.environ["BENCH_FOLDER"]) / name).write_text(f"{began_at} {time.time()}")


def choices(distribution: object) -> list[str | int]:
    """Return the choices of a categorical parameter."""
    assert isinstance(distribution, CategoricalDistribution)
    return list(distribution.choices)  # type: ignore[arg-type]


def value(params: Params) -> float:
    """Return a loss to optimize."""
    return float((params["dropout"] - 0.3) ** 2 + abs(params["learning_rate"] - 1e-2))
