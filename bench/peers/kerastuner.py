"""One process of KerasTuner: chief or worker, depending on its documented environment variables."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner

from bench.peers import fitting, job


class MnistModel(keras_tuner.HyperModel):
    """The space in KerasTuner's API; the batch size is a hyperparameter of `fit`, as in its guide."""

    def __init__(self, data: Any, augmentation: Any) -> None:
        super().__init__()
        self._data, self._augmentation = data, augmentation

    def _params(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        return {
            "batch_size": hp.Choice("batch_size", [64, 128, 256]),
            "optimizer": hp.Choice("optimizer", ["sgd", "adam"]),
            "learning_rate": hp.Float("learning_rate", 1e-4, 1e-1, sampling="log"),
            "dropout": hp.Float("dropout", 0.0, 0.6),
        }

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return fitting.compiled(self._params(hp), self._data)

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **options: Any) -> Any:
        return model.fit(**fitting.fed(self._params(hp), self._data, self._augmentation), **options)


def main() -> None:
    options = job.options()
    tuner = keras_tuner.BayesianOptimization(
        MnistModel(*job.load(options.objective)),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_trials=options.trials,
        # KerasTuner treats 0 as no seed.
        seed=options.seed + 1,
        directory=str(options.folder / "tuner"),
        project_name="bench",
    )
    tuner.search(epochs=options.epochs, callbacks=[fitting.EpochLog(options.folder)], verbose=0)


if __name__ == "__main__":
    main()
