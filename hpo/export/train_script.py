"""A Python script that trains a configuration without a study or a database."""

from __future__ import annotations

import json
import math

from hpo.export.config import Config


def script(config: Config) -> str:
    """Return the text of the script, which prints one line per epoch."""
    known = config.value is not None and math.isfinite(config.value)
    values = {
        "METRIC": config.metric,
        "VALUE": config.value if known else None,
        "VALUE_RULE": config.value_rule,
        "DIRECTION": config.direction,
        "OBJECTIVE": config.objective,
        "PARAMS": dict(config.params),
        "EPOCHS": config.epochs,
        "SEED": config.seed,
        "DATA": {key: value for key, value in config.data.items() if value is not None},
        "DEVICE": dict(config.device),
        "PRECISION": config.precision,
        "BACKEND": config.backend,
        "VERSIONS": dict(config.versions),
    }
    constants = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    about = json.dumps(f"{config.about}. This script trains it again.", ensure_ascii=False)
    return _SCRIPT.format(about=about, created=config.created, constants=constants)


_SCRIPT = '''\
"""Written by `hpo export`; needs hpo-service installed.

Data sets are read from the folder of `hpo data fetch` or from HPO_DATA_DIR.

DEVICE, PRECISION, BACKEND and VERSIONS describe the training of the trial. They are used again where this machine
has them; differences are printed. Exported {created}.
"""

import math
import sys

from hpo.errors import HpoError
from hpo.export.device_match import match_device
from hpo.settings import Settings
from objectives.base import DataOptions
from objectives.choices import declared
from objectives.loader import load
from objectives.local_run import LocalRun
from objectives.trial_value import chosen, reported
from objectives.values import metric_text

ABOUT = {about}
{constants}


class PrintingRun(LocalRun):
    """Prints the reported metrics."""

    def report(self, **metrics):
        super().report(**metrics)
        line = " ".join(f"{{name}}={{metric_text(value)}}" for name, value in metrics.items())
        total = "" if EPOCHS is None else f"/{{EPOCHS}}"
        print(f"epoch {{len(self.history)}}{{total}} {{line}}", flush=True)
        if not math.isfinite(metrics.get(METRIC, 0.0)):
            raise SystemExit(f"diverged: {{METRIC}} is {{metrics[METRIC]}}")


def main():
    print(ABOUT)
    device = match_device(DEVICE, PRECISION, BACKEND, VERSIONS)
    objective = load(OBJECTIVE)()
    data_dir = str(Settings.from_environment().data_dir)
    objective.prepare(DataOptions(data_dir=data_dir, **DATA), final=False)
    run = PrintingRun(total_epochs=EPOCHS or sys.maxsize, final=EPOCHS is None, seed=SEED, metric=METRIC, device=device)
    objective.train(declared(PARAMS, objective.space), run)
    if run.history:
        judged = chosen(reported(dict(enumerate(run.history, 1)), METRIC), VALUE_RULE, maximize=DIRECTION == "maximize")
        value = float(judged.value if run.value is None else run.value)
        trial = "" if VALUE is None else ", as in the trial" if value == VALUE else f", in the trial {{VALUE}}"
        print(f"{{METRIC}} = {{value}}{{trial}}")


if __name__ == "__main__":
    try:
        main()
    except HpoError as error:
        sys.exit(" ".join(str(error).split()))
'''
