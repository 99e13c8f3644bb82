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
        **({"RESTARTS": config.restarts} if config.restarts else {}),
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

import os
import sys

# No file next to this script may stand in for a module of a package, whatever its name.
FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path = [path for path in sys.path if os.path.realpath(path) != FOLDER]

from hpo.export.train_again import train_again

sys.path.append(FOLDER)

ABOUT = {about}
{constants}


if __name__ == "__main__":
    train_again(globals())
'''
