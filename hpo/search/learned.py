"""Results of earlier studies from which a study starts, as its spec stores them.

Values of another study, or of other data, are not comparable; only the order of its trials is. So each result is kept
as a configuration with its rank. The copy in the spec is bounded, and stays when the earlier study is deleted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives.base import Params
from objectives.spaces.choices import value_problem

BEST = 20
"""Best configurations of a study that are kept."""
OTHERS = 30
"""Further configurations that are kept, evenly over the ranks of the others."""
STUDIES = 5
"""Most earlier studies of one study."""
LEAST = 10
"""Finished trials that a study needs for others to start from its results without being asked."""


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """Results of one earlier study."""

    study: str
    """Name that it had when it was read."""
    trials: int
    """Number of finished trials among which the configurations are ranked."""
    configurations: tuple[Params, ...]
    """Configurations in the order of their ranks, the best first."""
    ranks: tuple[float, ...]
    """Rank of each configuration: the part of the trials that were better, 0 for the best one."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        return {
            "study": self.study,
            "trials": self.trials,
            "configurations": [dict(params) for params in self.configurations],
            "ranks": list(self.ranks),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EarlierStudy:
        """Invert `to_json`."""
        return cls(
            study=values["study"],
            trials=values["trials"],
            configurations=tuple(dict(params) for params in values["configurations"]),
            ranks=tuple(float(rank) for rank in values["ranks"]),
        )

    @property
    def is_valid(self) -> bool:
        """Whether it is such as a launch stores; anyone may have written a backup."""
        return (
            isinstance(self.study, str)
            and type(self.trials) is int
            and 0 < len(self.configurations) == len(self.ranks) <= BEST + OTHERS
            and all(0.0 <= rank < 1.0 for rank in self.ranks)
            and list(self.ranks) == sorted(self.ranks)
            and all(value_problem(params) is None for params in self.configurations)
        )


def summarized(study: str, ranked: Sequence[Mapping[str, Any]]) -> EarlierStudy:
    """Return a bounded part of the configurations of a study, of which `ranked` holds all, the best first."""
    others = len(ranked) - BEST
    step = max(1, math.ceil(others / OTHERS))
    kept = [*range(min(BEST, len(ranked))), *range(BEST, len(ranked), step)]
    return EarlierStudy(
        study=study,
        trials=len(ranked),
        configurations=tuple(dict(ranked[place]) for place in kept),
        ranks=tuple(place / len(ranked) for place in kept),
    )
