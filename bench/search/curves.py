"""Tables of learning curves: configurations of an objective, each trained for all epochs, in one compact file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution

from objectives.base import Direction
from objectives.spaces.space import space_from_json, space_to_json

FOLDER = Path(__file__).parent / "tables"

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class CurveTable:
    """Learning curves of n configurations over E epochs."""

    name: str
    objective: str
    metric: str
    direction: Direction
    space: Mapping[str, BaseDistribution]
    first: Mapping[str, Any]
    """The objective's known good configuration, which is one of the table's; empty if it has none."""
    asked: int
    """Configurations that the table is to have; with fewer, it is partial."""
    limit: int | None
    """Training and validation examples together."""
    configurations: Floats
    """(n, parameters), in Optuna's internal form, in the order of the space."""
    seeds: npt.NDArray[np.int64]
    """(n,), the seed of the study from which each row was read."""
    values: Floats
    """(n, E), the metric after each epoch; NaN after an epoch that diverged."""
    losses: Floats
    """(n, E), the validation loss after each epoch."""
    seconds: Floats
    """(n, E), of each epoch; the first one includes building the model."""

    @property
    def epochs(self) -> int:
        return int(self.values.shape[1])

    @property
    def partial(self) -> bool:
        return len(self.values) < self.asked

    @property
    def maximize(self) -> bool:
        return self.direction == "maximize"

    def save(self, folder: Path = FOLDER) -> Path:
        """Write the table as `NAME.npz` and return its path."""
        facts = {
            "objective": self.objective,
            "metric": self.metric,
            "direction": self.direction,
            "space": space_to_json(self.space),
            "first": dict(self.first),
            "asked": self.asked,
            "limit": self.limit,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.npz"
        np.savez_compressed(
            path,
            facts=np.array(json.dumps(facts)),
            configurations=self.configurations.astype(np.float32),
            seeds=self.seeds,
            values=self.values.astype(np.float32),
            losses=self.losses.astype(np.float32),
            seconds=self.seconds.astype(np.float16),
        )
        return path


def load_table(name: str, folder: Path = FOLDER) -> CurveTable:
    """Read the table of that name."""
    with np.load(folder / f"{name}.npz") as arrays:
        facts = json.loads(str(arrays["facts"]))
        facts["space"] = space_from_json(facts["space"])
        columns = {key: arrays[key] for key in ("configurations", "values", "losses", "seconds")}
        return CurveTable(
            name=name,
            **facts,
            seeds=arrays["seeds"],
            **{key: array.astype(np.float64) for key, array in columns.items()},
        )


def table_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all tables, sorted."""
    return sorted(path.stem for path in folder.glob("*.npz"))
