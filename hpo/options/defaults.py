"""Defaults of `hpo launch` for a new study, and the names that its options take."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLERS = ("tpe", "curves", "random", "gp", "cmaes", "qmc", "grid")
CURVES = "curves"
"""The sampler that proposes by freeze-thaw's model of learning curves."""
GRID = "grid"
"""The sampler that trains each configuration of a finite space once."""
FREEZE_THAW = "freeze-thaw"
NO_PRUNER = "none"
PRUNERS = ("median", "asha", "hyperband", FREEZE_THAW, NO_PRUNER)
"""Names that `hpo.search.samplers` and `hpo.search.pruners` build, which import Optuna; a test compares them."""

ENGINES = ("local", "ray")
DIRECTIONS = ("minimize", "maximize")
SPACES = ("keep", "change")
CODES = ("keep", "restart")


@dataclass(frozen=True, kw_only=True)
class LaunchDefaults:
    """Defaults of `hpo launch` for a new study."""

    trials: int = 50
    sampler: str = "tpe"
    pruner: str = FREEZE_THAW
    pruner_without_pauses: str = "median"
    """Pruner of trials that cannot pause, or that no model of their curves would compare."""
    pruner_of_many: str = "asha"
    many_trials: int = 100
    """Budget of such trials from which `pruner_of_many` is more efficient: see docs/decisions.md."""
    least_epochs: int = 4
    """Fewest epochs of trials that pause: shorter ones are not worth the starts."""
    seed: int = 0
    max_failed: int = 10
    max_lost: int = 3

    def pruner_for(self, trials: int, epochs: int | None, *, pauses: bool) -> str:
        """Return the default pruner for `trials` of so many epochs, which are None if only the objective knows them.

        `pauses`: whether trials can pause, and a model of their curves can decide which.
        """
        if pauses and epochs is not None and epochs >= self.least_epochs:
            return self.pruner
        return self.pruner_of_many if trials >= self.many_trials else self.pruner_without_pauses
