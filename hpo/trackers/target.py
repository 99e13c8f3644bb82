"""Experiment trackers that `--log-to` names: their kinds, their addresses and the packages that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hpo.errors import MissingDependencyError, UsageError
from hpo.suggestions import did_you_mean

MODULES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""Module that each kind of tracker imports; the extra that installs it has the name of the kind."""

DEFAULT_FOLDER = "runs"
"""Folder of event files for TensorBoard."""


@dataclass(frozen=True)
class Target:
    """One tracker that a study is logged to."""

    kind: str
    address: str = ""
    """Folder for TensorBoard, tracking URI of MLflow, `project` or `entity/project` of W&B; empty: the tracker's own
    default."""

    @property
    def option(self) -> str:
        """The value of `--log-to` that names it, here and in other working directories."""
        return f"{self.kind}:{self.address}" if self.address else self.kind


def parse_targets(given: Sequence[str]) -> tuple[Target, ...]:
    """Return the trackers of `--log-to`, each once.

    Raises:
        UsageError: there is no such tracker.
        MissingDependencyError: the package of one is not installed.
    """
    return tuple(dict.fromkeys(_parse(text) for text in given))


def _parse(given: str) -> Target:
    kind, _, address = given.strip().partition(":")
    if kind not in MODULES:
        raise UsageError(
            f"--log-to {given}: there is no tracker {kind!r}{did_you_mean(kind, MODULES)} (use tensorboard, mlflow"
            " or wandb, perhaps with a target, such as tensorboard:runs, mlflow:http://host:5000 or wandb:project)"
        )
    if find_spec(MODULES[kind]) is None:
        raise MissingDependencyError(
            f"--log-to {kind} needs {MODULES[kind]}, which is not installed: pip install 'hpo-service[{kind}]'"
        )
    if kind == "tensorboard":
        address = str(Path(address or DEFAULT_FOLDER).expanduser().absolute())
    return Target(kind, address)
