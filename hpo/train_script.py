"""The Python script that trains a configuration again, without a study or a database."""

from __future__ import annotations

import json

from hpo.config import Config


def script(config: Config) -> str:
    """Its text; it prints a line an epoch."""
    values = {
        "OBJECTIVE": config.objective,
        "PARAMS": dict(config.params),
        "EPOCHS": config.epochs,
        "SEED": config.seed,
        "DATA": {key: value for key, value in config.data.items() if value is not None},
    }
    constants = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    exported_with = ", ".join(f"{name} {number}" for name, number in config.versions.items())
    about = json.dumps(f"{config.about}. Trains it again, one line an epoch.", ensure_ascii=False)
    return _SCRIPT.format(
        about=about,
        versions=exported_with,
        created=config.created,
        constants=constants,
        metric=repr(config.metric),
    )


_SCRIPT = '''\
"""Written by `hpo export`; needs hpo-service installed.

Data that is not bundled is looked for where `hpo data fetch` puts it, or in HPO_DATA_DIR.

Exported {created} with {versions}.
"""

import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from hpo.errors import HpoError
from hpo.settings import Settings
from objectives.base import DataOptions
from objectives.loader import load
from objectives.local_run import LocalRun

ABOUT = {about}
METRIC = {metric}
{constants}


class PrintingRun(LocalRun):
    """Prints what is reported."""

    def report(self, **metrics):
        super().report(**metrics)
        shown = " ".join(f"{{name}}={{value:.4g}}" for name, value in metrics.items())
        print(f"epoch {{len(self.history)}}/{{self.total_epochs}} {{shown}}", flush=True)
        if not math.isfinite(metrics.get(METRIC, 0.0)):
            raise SystemExit(f"diverged: {{METRIC}} is {{metrics[METRIC]}}")


def main():
    print(ABOUT)
    objective = load(OBJECTIVE)()
    data_dir = str(Settings.from_environment().data_dir)
    objective.prepare(DataOptions(data_dir=data_dir, **DATA), final=False)
    run = PrintingRun(total_epochs=EPOCHS, seed=SEED, metric=METRIC)
    objective.train(dict(PARAMS), run)
    if run.history:
        print(f"{{METRIC}} = {{run.history[-1][METRIC]:.6g}}")


if __name__ == "__main__":
    try:
        main()
    except HpoError as error:
        sys.exit(" ".join(str(error).split()))
'''
