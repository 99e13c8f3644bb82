"""The smallest objective: where is (x - 2)² least? Copy it, or see docs/reference/objectives.md for a Keras model."""

from __future__ import annotations

from optuna.distributions import FloatDistribution

from objectives.base import Objective, Params, Run


class Quadratic(Objective):
    """Trains nothing, and takes a moment: for looking at how a study runs."""

    metric, direction, epochs = "loss", "minimize", 5
    space = {"x": FloatDistribution(-5.0, 5.0)}

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch)
