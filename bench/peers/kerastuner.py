"""One process of KerasTuner: chief or worker, as its documented environment variables say."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner

from bench.mnist_job import KNOWN_GOOD
from bench.peers import fitting, job


class MnistModel(keras_tuner.HyperModel):
    """The space in KerasTuner's words; the batch size is a hyperparameter of `fit`, as its guide has it."""

    def __init__(self, data: Any, augmentation: Any, known_good: bool) -> None:
        super().__init__()
        self._data, self._augmentation = data, augmentation
        # KerasTuner tries the defaults first.
        self._defaults: dict[str, Any] = KNOWN_GOOD if known_good else {}

    def _params(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        default = self._defaults.get
        return {
            "batch_size": hp.Choice("batch_size", [64, 128, 256], default=default("batch_size")),
            "optimizer": hp.Choice("optimizer", ["sgd", "adam"], default=default("optimizer")),
            "learning_rate": hp.Float(
                "learning_rate", 1e-4, 1e-1, sampling="log", default=default("learning_rate")
            ),
            "dropout": hp.Float("dropout", 0.0, 0.6, default=default("dropout")),
        }

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return fitting.compiled(self._params(hp), self._data)

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **options: Any) -> Any:
        return model.fit(**fitting.fed(self._params(hp), self._data, self._augmentation), **options)


def main() -> None:
    options = job.options()
    tuner = keras_tuner.BayesianOptimization(
        MnistModel(*job.load(options.objective), options.known_good),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_trials=options.trials,
        seed=options.seed,
        directory=str(options.folder / "tuner"),
        project_name="bench",
    )
    tuner.search(epochs=options.epochs, callbacks=[fitting.EpochLog(options.folder)], verbose=0)


if __name__ == "__main__":
    main()
