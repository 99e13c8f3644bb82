"""Ray Tune with OptunaSearch and ASHA: two concurrent trials of one processor core each."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from bench.jobs.mnist_job import KNOWN_GOOD
from bench.peers import job


def trial(params: dict[str, Any], data: Any, augmentation: Any, epochs: int, folder: Any) -> None:
    """Train one configuration in its own process."""
    import keras

    from bench.peers import fitting

    class Reporting(keras.callbacks.Callback):
        def on_epoch_end(self, _epoch: int, logs: Any = None) -> None:
            tune.report({"val_accuracy": logs["val_accuracy"]})

    log = fitting.EpochLog(folder, tune.get_context().get_trial_id())
    fitting.fit(params, data, augmentation, epochs, [log, Reporting()])


def main() -> None:
    options = job.options()
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(options.folder / "ray"),
    )
    data, augmentation = job.load(options.objective)
    space = {
        "batch_size": tune.choice([64, 128, 256]),
        "optimizer": tune.choice(["sgd", "adam"]),
        "learning_rate": tune.loguniform(1e-4, 1e-1),
        "dropout": tune.uniform(0.0, 0.6),
    }
    train = tune.with_parameters(
        trial, data=data, augmentation=augmentation, epochs=options.epochs, folder=options.folder
    )
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(
                seed=options.seed, points_to_evaluate=[KNOWN_GOOD] if options.known_good else None
            ),
            scheduler=ASHAScheduler(max_t=options.epochs, grace_period=1),
            num_samples=options.trials,
            max_concurrent_trials=2,
            reuse_actors="BENCH_REUSE_ACTORS" in os.environ,
        ),
        run_config=tune.RunConfig(storage_path=str(options.folder / "tune"), name="bench", verbose=0),
    )
    failed = tuner.fit().num_errors
    ray.shutdown()
    if failed:
        raise SystemExit(f"{failed} trials failed")


if __name__ == "__main__":
    main()
