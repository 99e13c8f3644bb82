"""An objective's declarations as one value, which is read without importing or running the objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.distributions import BaseDistribution

from objectives.trial_value import ValueRule

Params = dict[str, Any]
"""One configuration: a value for each name of the search space."""

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """An objective's declarations: enough to search over it without importing or running it."""

    name: str
    metric: str
    direction: Direction
    epochs: int | None
    """Epochs of a trial that is not pruned; None: the objective alone knows, and the study chooses the direction."""
    value: ValueRule = "last"
    """Which report is the value of a trial."""
    space: Mapping[str, BaseDistribution]
    first: Sequence[Params] = field(default_factory=tuple)
    open_space: bool = False
    """Whether the objective names its parameters while it runs; `space` is empty then."""
    declares_direction: bool = True
    """Whether `direction` is the objective's own; else it is a default, and the study has its direction."""
    dataset: str | None = None
    builds_models: bool = False
    """Whether the objective builds Keras models for the service to train, which can be checked before a study."""
    takes_images: bool = False
    """Whether the objective has no data set and trains on images that a study is given."""
    takes_folds: bool = False
    """Whether its trials can be cross-validated in folds."""
    takes_restarts: bool = False
    """Whether a trial can go on after its last epoch with a new schedule."""
    metrics: Mapping[str, Direction] = field(default_factory=dict)
    """Further metrics of its trials that a study may optimize (`--metric`), with their directions."""
    recipe: Mapping[str, str] = field(default_factory=dict)
    """Switches of the parts of its recipe, with the declared values as text: see `objectives.runs.switches`."""
    summary: str = ""
    code: str = ""
    """Digest of the code that was loaded, see `objectives.code`; empty: not known."""
