"""Several labels from several inputs, in folds; python tagged_for_tests.py SEED PARAMS trains without the service."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution

from hpo import KerasObjective, LocalRun
from objectives.base import DataOptions
from tests.acceptance.fit_for_tests import hold

FOLDS = 3
_calls = 0


def tagged() -> Any:
    """Rows and words by a pipeline that shuffles and computes in threads of its own."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(240, 5))
    tags = (rows[:, :3] > 0).astype("uint8")
    words = np.array(["red", "blue", "green"])[rows[:, 3:].argmax(axis=1)]
    pipeline = tf.data.Dataset.from_tensor_slices(({"row": rows, "word": words}, tags)).shuffle(100, seed=1)
    doubled = (
        pipeline.map(lambda x, y: ({**x, "row": 2 * x["row"]}, y), tf.data.AUTOTUNE).batch(32).prefetch(2)
    )
    return doubled.take(6), doubled.skip(6)


def error(targets: Any, outputs: Any) -> float:
    """Return the share of wrong labels; wait in a call of TEST_HOLD, one call a fold, until the process is killed."""
    global _calls
    _calls += 1
    hold(_calls)
    return float(((outputs > 0) != targets).mean())


class Tagged(KerasObjective):
    """Predicts three labels from a row and a word."""

    task = "labels"
    dataset = tagged
    metrics = ["auc", error]
    metric, direction, epochs = "val_loss", "minimize", 6
    class_weight = {"0": 3.0}
    space = {"learning_rate": FloatDistribution(0.005, 0.05), "dropout": FloatDistribution(0.1, 0.3)}

    def build(self, params: Any, data: Any) -> Any:
        """Return a network of two inputs, with random numbers of its own."""
        import keras

        row, word = keras.Input((5,), name="row"), keras.Input((), dtype="string", name="word")
        encode = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=5)
        encode.adapt(data.x_train["word"])
        x = keras.layers.Concatenate()([keras.layers.GaussianNoise(0.1)(row), encode(word)])
        x = keras.layers.Dense(16, "relu")(x)
        x = keras.layers.Dropout(params["dropout"])(keras.layers.BatchNormalization()(x))
        return keras.Model({"row": row, "word": word}, keras.layers.Dense(data.output_size)(x))


if __name__ == "__main__":
    objective, run = Tagged(), LocalRun(Tagged.epochs, seed=int(sys.argv[1]))
    objective.prepare(DataOptions(folds=FOLDS), final=False)
    objective.train(json.loads(sys.argv[2]), run)
    print(json.dumps(run.history))
