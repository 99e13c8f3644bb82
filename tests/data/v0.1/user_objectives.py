"""Objectives as a user of version 0.1 wrote them: they train nothing, or a very small model, in milliseconds."""

import math
import os
import time

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.augment import Augmentation
from objectives.base import DataOptions, DivergedError, Objective, Params, Run
from objectives.keras_objective import KerasObjective

EPOCH_SECONDS = float(os.environ.get("USER_EPOCH_SECONDS", "0"))


class Steady(Objective):
    """Keeps a running sum of its epochs in the checkpoint, and fails when one was skipped or done twice."""

    metric, direction, epochs = "loss", "minimize", 4
    space = {"x": FloatDistribution(-5.0, 5.0), "letter": CategoricalDistribution(["a", "b"])}
    first = [{"x": 2.0, "letter": "a"}]

    def prepare(self, options: DataOptions, final: bool) -> None:
        self.prepared = (options.limit, final)

    def train(self, params: Params, run: Run) -> None:
        done = int(run.state["done"]) if run.state else 0
        total = int(run.state["weights"].sum()) if run.state else 0
        for epoch in run.epochs():
            if epoch != done + 1:
                raise AssertionError(f"epoch {epoch} follows epoch {done}")
            run.tick(1, 2)
            time.sleep(EPOCH_SECONDS)
            done, total = epoch, total + epoch
            run.save({"done": done, "weights": np.array([total, 0])})
            self.close(params, run, epoch, total)
        if run.final:
            run.record(test_accuracy=0.9 + (run.seed % 7) / 100, test_images=360)
            run.record(confusion=[[3, 1], [0, 4]], classes=["a", "b"])
            if run.output:
                (run.output / "model.keras").write_text(f"total {total}")

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        run.log(f"epoch {epoch} of {run.total_epochs}")
        run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch, total=total)


class Moody(Steady):
    """Ends in the second epoch in the way its parameter `mood` says."""

    space = {
        "x": FloatDistribution(-5.0, 5.0),
        "mood": CategoricalDistribution(["fine", "hopeless", "diverged", "nan", "oom", "bug"]),
    }
    first = [
        {"x": x, "mood": mood}
        for x, mood in (
            (2.5, "fine"),
            (2.0, "fine"),
            (1.0, "fine"),
            (3.0, "fine"),
            (0.5, "fine"),
            (2.0, "hopeless"),
            (2.0, "diverged"),
            (2.0, "nan"),
            (2.0, "oom"),
            (2.0, "bug"),
        )
    ]

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        match params["mood"] if epoch > 1 else "fine":
            case "bug":
                raise ValueError("the objective is broken")
            case "oom":
                raise MemoryError("the model is too large")
            case "diverged":
                raise DivergedError("the weights have no bounds")
            case "nan":
                run.report(loss=math.nan, total=total)
            case "hopeless":
                run.report(loss=1000.0, total=total)
            case _:
                super().close(params, run, epoch, total)


class Gloomy(Moody):
    """Its second trial runs out of memory."""

    first = [{"x": 2.5, "mood": "fine"}, {"x": 2.0, "mood": "oom"}, {"x": 2.0, "mood": "fine"}]


class Tiny(KerasObjective):
    """A network of a few hundred weights on the bundled digits."""

    dataset = "digits"
    epochs = 3
    augmentation = Augmentation(shift=1)
    space = {
        "batch_size": CategoricalDistribution([32, 64]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
    }
    first = [{"batch_size": 64, "optimizer": "adam", "learning_rate": 1e-2, "dropout": 0.1}]

    def build(self, params, data):
        from objectives.architectures import cnn

        return cnn(data, widths=(4,), dense=8, dropout=params["dropout"])
