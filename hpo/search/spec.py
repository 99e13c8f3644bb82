"""The spec of a study: everything that every agent must build the same, stored beside the study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution

from hpo.options import LaunchDefaults
from objectives.base import DataOptions, Description, Params


@dataclass(frozen=True)
class StudySpec:
    """What is searched and how; `budget` (the trials wanted) is kept beside it, for it may grow."""

    objective: str
    """A shipped objective's name, `package.module:Class` or `/absolute/file.py:Class`."""
    metric: str
    direction: Literal["minimize", "maximize"]
    epochs: int
    """Epochs of a trial that is not pruned."""
    space: Mapping[str, BaseDistribution]
    """The space searched: the objective's, narrowed by `--param`."""
    objective_space: Mapping[str, BaseDistribution]
    """The objective's own space when the study began, to see whether its code changed since."""
    first: tuple[Params, ...] = ()
    """Known good configurations, tried first, as far as they lie in `space`."""
    sampler: str = LaunchDefaults.sampler
    pruner: str = LaunchDefaults.pruner
    seed: int = LaunchDefaults.seed
    data: DataOptions = field(default_factory=DataOptions)
    startup: int = 10
    """Trials before the sampler models anything, and, up to 5, complete ones before the pruner compares."""
    max_lost: int = LaunchDefaults.max_lost
    """Lost attempts after which a trial is failed."""
    max_failed: int = LaunchDefaults.max_failed
    """Failed trials after which the study stops: they do not count towards the budget."""
    checkpoint_quota_bytes: int | None = None
    """Most that the study's checkpoints may take in one checkpoints folder; None: no bound."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that `from_json` reads back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["space"] = space_to_json(self.space)
        values["objective_space"] = space_to_json(self.objective_space)
        values["first"] = [dict(params) for params in self.first]
        values["data"] = asdict(self.data)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StudySpec:
        """The inverse of `to_json`; unknown keys of newer versions are ignored."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known["space"] = space_from_json(known["space"])
        known["objective_space"] = space_from_json(known["objective_space"])
        known["first"] = tuple(dict(params) for params in known.get("first", ()))
        data_names = {f.name for f in fields(DataOptions)}
        known["data"] = DataOptions(**{k: v for k, v in known.get("data", {}).items() if k in data_names})
        return cls(**known)

    def describe(self, name: str) -> Description:
        """The objective as this study searches it."""
        return Description(
            name, self.metric, self.direction, self.epochs, self.space, self.first, summary=self.objective
        )


def space_to_json(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Names to Optuna's own JSON form of each distribution."""
    return {name: json.loads(distribution_to_json(dist)) for name, dist in space.items()}


def space_from_json(values: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The inverse of `space_to_json`."""
    return {name: json_to_distribution(json.dumps(dist)) for name, dist in values.items()}
