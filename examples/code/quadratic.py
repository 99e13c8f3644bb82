"""The smallest objective, the minimum of (x - 2)²; for a Keras model see docs/tutorial/your-own-model.md."""

from optuna.distributions import FloatDistribution

from hpo import Objective


class Quadratic(Objective):
    """A parabola that takes a moment, to watch how a study runs."""

    metric, direction, epochs = "loss", "minimize", 5
    space = {"x": FloatDistribution(-5.0, 5.0)}

    def train(self, params, run):
        for epoch in run.epochs():
            run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch)
