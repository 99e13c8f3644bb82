"""The training of a configuration by an exported script, without a study or a database."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpo.errors import HpoError
from hpo.export.device_match import match_device
from hpo.models.standard_error import without_start_messages
from hpo.settings import Settings
from objectives import backend
from objectives.base import DataOptions, Objective
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.loader import load
from objectives.local_run import LocalRun
from objectives.spaces.choices import declared
from objectives.spaces.space import space_of
from objectives.trial_value import chosen, reported
from objectives.values import metric_text


class _PrintingRun(LocalRun):
    """Prints the reported metrics."""

    def report(self, **metrics: Any) -> None:
        super().report(**metrics)
        # As they were kept: an array may hold one of the given ones.
        metrics = dict(self.history[-1])
        line = " ".join(f"{name}={metric_text(value)}" for name, value in metrics.items())
        total = "" if self.final else f"/{self.total_epochs}"
        print(f"epoch {len(self.history)}{total} {line}", flush=True)
        assert self.metric is not None
        if not math.isfinite(metrics.get(self.metric, 0.0)):
            raise SystemExit(f"diverged: {self.metric} is {metrics[self.metric]}")


def train_again(settings: Mapping[str, Any]) -> None:
    """Train the configuration whose constants `train_script` has written, print each epoch, and end on an error."""
    try:
        _train(settings)
    except HpoError as error:
        sys.exit(" ".join(str(error).split()))


def _loaded(reference: str, device: Device) -> Objective:
    """Return the objective, with Keras imported if it trains with it, but without the lines that TensorFlow prints."""
    backend.before_import()
    with without_start_messages(device.owns):
        objective = load(reference)()
        if isinstance(objective, KerasObjective):
            importlib.import_module("objectives.training.loop")
    return objective


def _train(settings: Mapping[str, Any]) -> None:
    metric, value, epochs = settings["METRIC"], settings["VALUE"], settings["EPOCHS"]
    print(settings["ABOUT"])
    device = match_device(
        settings["DEVICE"], settings["PRECISION"], settings["BACKEND"], settings["VERSIONS"]
    )
    objective = _loaded(settings["OBJECTIVE"], device)
    here = Settings.from_environment()
    options = DataOptions(**settings["DATA"])
    options = replace(options, data_dir=str(here.data_dir), cache_dir=str(here.cache_dir))
    objective.study_space = space_of([settings["PARAMS"]])
    objective.prepare(options, final=False)
    run = _PrintingRun(
        total_epochs=epochs or sys.maxsize,
        restarts=settings.get("RESTARTS", ()),
        final=epochs is None,
        seed=settings["SEED"],
        metric=metric,
        device=device,
    )
    objective.train(declared(settings["PARAMS"], objective.space), run)
    if run.history:
        maximize = settings["DIRECTION"] == "maximize"
        judged = chosen(
            reported(dict(enumerate(run.history, 1)), metric), settings["VALUE_RULE"], maximize=maximize
        )
        assert judged is not None
        found = float(judged.value if run.value is None else run.value)
        trial = "" if value is None else ", as in the trial" if found == value else f", in the trial {value}"
        print(f"{metric} = {found}{trial}")
