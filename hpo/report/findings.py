"""Statistics of a study's trials, computed when a part of the report needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from hpo.analysis.common_epoch import Comparison, compare_trials
from hpo.analysis.effects import Effect, find_effects
from hpo.analysis.importance import importances
from hpo.analysis.statistics import deviation
from hpo.report.study_comparison import matches_search
from hpo.study.history import StudyHistory


class Findings:
    """Statistics of one history; one that cannot be computed costs only the parts that show it."""

    def __init__(self, history: StudyHistory) -> None:
        self._history = history

    @cached_property
    def comparison(self) -> Comparison:
        """The trials at an epoch that enough of them reached."""
        return compare_trials(self._history)

    @cached_property
    def effects(self) -> Sequence[Effect]:
        """Effect of each parameter."""
        return find_effects(self.comparison, seed_noise(self._history, self.comparison))

    @cached_property
    def importance(self) -> dict[str, float] | None:
        """Importance of each parameter; None with too few trials."""
        return importances(self.comparison)


def seed_noise(history: StudyHistory, comparison: Comparison) -> float | None:
    """Return the standard deviation of the final metric over seeds, pooled over candidates; None if unknown."""
    if comparison.epoch != comparison.epochs_per_trial:
        return None
    spreads = [
        deviation(candidate["values"])
        for row in history.finished_retrains
        if matches_search(row, history.study.spec_json)
        for candidate in (row.metrics or {}).get("selection", {}).get("candidates", [])
        if len(candidate["values"]) > 1
    ]
    return math.hypot(*spreads) / math.sqrt(len(spreads)) if spreads else None
