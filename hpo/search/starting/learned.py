"""Results of earlier studies from which a study starts, as its spec stores them.

Values of another study, or of other data, are not comparable; only the order of its trials is. So the best
configurations are kept, without their values, and they stay when the earlier study is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from objectives.base import Params
from objectives.spaces.choices import identity, value_problem

BEST = 10
"""Best configurations of a study that are kept; some may lie outside the new space."""
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
    """Number of finished trials, of which the configurations were the best."""
    configurations: tuple[Params, ...]
    """The best one first."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        configurations = [dict(params) for params in self.configurations]
        return {"study": self.study, "trials": self.trials, "configurations": configurations}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EarlierStudy:
        """Invert `to_json`."""
        return cls(
            study=values["study"],
            trials=values["trials"],
            configurations=tuple(dict(params) for params in values["configurations"]),
        )

    @property
    def is_valid(self) -> bool:
        """Whether it is such as a launch stores; anyone may have written a backup."""
        return (
            isinstance(self.study, str)
            and type(self.trials) is int
            and 0 < len(self.configurations) <= min(BEST, self.trials)
            and all(value_problem(params) is None for params in self.configurations)
        )


def summarized(study: str, ranked: Sequence[Mapping[str, Any]]) -> EarlierStudy:
    """Return the best configurations of a study, each once; `ranked` holds those of all trials, the best first."""
    different: dict[str, Params] = {}
    for params in ranked:
        different.setdefault(identity(dict(params)), dict(params))
    best = tuple(islice(different.values(), BEST))
    return EarlierStudy(study=study, trials=len(ranked), configurations=best)
