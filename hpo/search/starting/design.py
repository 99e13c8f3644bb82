"""The design of an experiment: configurations around a base, each of which is trained from the same seeds.

A study with a design trains these runs and nothing else. A run is a configuration and a seed, and a trial of the study
is the run of its parameters and its seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from objectives.base import Params
from objectives.spaces.choices import identity

FIRST_SEED = 2_500_000_000
"""First seed of runs: beyond 2³¹, so that it is no seed of a search, and below those of a retrain."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of an experiment, which a later command may extend."""

    seeds: int = 3
    values: int = 5
    """Values of a number, its best one and the ends of its range included."""
    parameters: tuple[str, ...] = ()
    """Parameters that vary; empty: all."""
    pairs: tuple[tuple[str, str], ...] | None = None
    """Pairs that vary together; None: the default ones."""
    recipe: bool = False
    """Whether the parts of the objective's recipe are switched off, too."""
    margin: float | None = None
    """Smallest difference in the metric that matters; None: the default."""


@dataclass(frozen=True, kw_only=True)
class PlannedPoint:
    """One configuration of a design."""

    params: Params
    changed: tuple[str, ...] = ()
    """Parameters whose values differ from the base on purpose; empty: the base itself."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """Runs of an experiment: each point from each seed."""

    study: str
    """Study whose configuration is the base."""
    trial: int | None
    """Number of the trial in that study that had it."""
    points: tuple[PlannedPoint, ...]
    """The base first."""
    seeds: tuple[int, ...]
    settings: Settings
    recipe: Mapping[str, str]
    """Parts of the recipe that can be switched off, by parameter, each as the objective declares it."""

    @property
    def base(self) -> Params:
        return self.points[0].params

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.points) * len(self.seeds)

    def extended(self, other: Design) -> Design:
        """Return the design with the points and seeds that only `other` has at its end; it loses none."""
        known = {identity(point.params) for point in self.points}
        more = [point for point in other.points if identity(point.params) not in known]
        return replace(
            other,
            study=self.study,
            trial=self.trial,
            points=(*self.points, *more),
            seeds=tuple(dict.fromkeys((*self.seeds, *other.seeds))),
            recipe={**self.recipe, **other.recipe},
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Design:
        """Invert `to_json`."""
        settings = dict(values["settings"])
        pairs = settings.get("pairs")
        settings["parameters"] = tuple(settings.get("parameters", ()))
        settings["pairs"] = None if pairs is None else tuple((one, other) for one, other in pairs)
        return cls(
            study=values["study"],
            trial=values["trial"],
            points=tuple(
                PlannedPoint(params=dict(point["params"]), changed=tuple(point["changed"]))
                for point in values["points"]
            ),
            seeds=tuple(values["seeds"]),
            settings=Settings(**settings),
            recipe=dict(values["recipe"]),
        )


def seeds_of(count: int) -> Sequence[int]:
    """Return the seeds of an experiment: the same ones in every experiment."""
    return range(FIRST_SEED, FIRST_SEED + count)
