"""The scores of a trial at the rungs of freeze-thaw."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from hpo.search.spec import StudySpec
from objectives.trial_value import Reported, chosen


def rung_scores(
    rungs: Collection[int], reports: Sequence[Reported], epoch: int, spec: StudySpec
) -> dict[int, float]:
    """Return the trial's value up to each rung that it has reached after `epoch`, negated if larger is better.

    It is NaN at a rung before which the objective's metric was never reported, or never finite.
    """
    maximize = spec.direction == "maximize"
    scores = {}
    for rung in rungs:
        if rung <= epoch:
            found = chosen([one for one in reports if one.epoch <= rung], spec.value, maximize=maximize)
            value = math.nan if found is None else found.value
            scores[rung] = -value if maximize else value
    return scores
