"""The race among the candidates of `hpo retrain --top`: one that cannot win any more is trained no further.

All candidates train from the same seeds, in the order of the seeds. From the second seed on, the mean difference
between the leader and a candidate over all seeds is predicted from those trained so far, and the candidate is dropped
if it will almost surely stay behind. The prediction is the predictive probability by which clinical trials are ended
early (Spiegelhalter, Freedman and Blackburn, "Monitoring clinical trials: conditional or predictive power?", 1986);
races of configurations are those of Maron and Moore ("Hoeffding races", 1994) and Birattari et al. ("A racing
algorithm for configuring metaheuristics", 2002). How often the winner changes: `python -m bench.search.racing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from hpo.analysis.statistics import is_comparable, mean

RISK = 0.05
"""Largest probability that a race ends with another winner than all seeds of all candidates would have."""

LEAST_SEEDS = 2
"""Seeds of which the noise of seeds can be estimated."""

FAILED = math.nan
"""Value of a seed that ended without one: its candidate cannot win."""


@dataclass(frozen=True)
class Drop:
    """The end of a candidate before its last seed."""

    seeds: int
    """Number of seeds that count, of it as of all others then."""
    probability: float
    """Predicted probability that it would have had a better mean than the leader after all seeds."""


@dataclass(frozen=True)
class Standing:
    """A race as far as its values decide it."""

    drops: Mapping[int, Drop] = field(default_factory=dict)
    """Candidates that were dropped, by index."""
    failed: Mapping[int, int] = field(default_factory=dict)
    """Index of the first seed that ended without a value, of each candidate that has one."""

    def needs(self, candidate: int, seed: int) -> bool:
        """Whether the run of a candidate from a seed, both by index, can still matter."""
        if candidate in self.failed:
            return seed <= self.failed[candidate]
        return candidate not in self.drops or seed < self.drops[candidate].seeds


def standing_of(
    values: Sequence[Sequence[float | None]], control: int | None = None, *, maximize: bool
) -> Standing:
    """Return the race of candidates, given their values by seed: None is not trained yet, `FAILED` has no value.

    It depends on nothing but the values: each decision is made by those of the seeds up to its own, so a race that was
    interrupted, or that had more slots, ends alike. The `control` is not dropped, so that the others can be compared
    with it over all seeds.
    """
    failed = {
        candidate: first
        for candidate, row in enumerate(values)
        if (
            first := next((i for i, value in enumerate(row) if value is not None and math.isnan(value)), None)
        )
        is not None
    }
    live = list(range(len(values)))
    while True:
        drops, loser = _run(values, live, failed, control, maximize=maximize)
        if loser is None:
            return Standing(drops, failed)
        # Others may have been dropped because of it.
        live.remove(loser)


def _run(
    values: Sequence[Sequence[float | None]],
    live: Sequence[int],
    failed: Mapping[int, int],
    control: int | None,
    *,
    maximize: bool,
) -> tuple[dict[int, Drop], int | None]:
    """Return the drops, as far as all values of a seed are known, and a candidate that failed while it was live."""
    drops: dict[int, Drop] = {}
    seeds = len(values[0])
    risk = RISK / max((len(values) - 1) * (seeds - LEAST_SEEDS), 1)
    for count in range(1, seeds + 1):
        for candidate in live:
            if failed.get(candidate) == count - 1:
                return drops, candidate
        known = {
            candidate: [value for value in values[candidate][:count] if value is not None]
            for candidate in live
        }
        if any(len(row) < count for row in known.values()):
            break
        for candidate, probability in _chances(known, seeds, maximize=maximize).items():
            if probability < risk and candidate != control:
                drops[candidate] = Drop(count, probability)
        live = [candidate for candidate in live if candidate not in drops]
    return drops, None


def _chances(known: Mapping[int, Sequence[float]], seeds: int, *, maximize: bool) -> dict[int, float]:
    """Return the probability of each candidate but the leader to end before the leader; empty if there is no estimate.

    The differences of the remaining seeds vary around a mean that is itself known from n seeds only, so that the sum
    of all S differences has the variance v S (S - n) / n, where v is that of one seed's difference: twice the residual
    variance of a two-way layout of candidates and seeds, with (n - 1) (k - 1) degrees of freedom.
    """
    # `t.cdf` of scipy.stats is the same, but takes 0.25 s longer to import.
    from scipy.special import stdtr

    rows = list(known.values())
    count, n = len(rows), len(rows[0])
    if count < 2 or not LEAST_SEEDS <= n < seeds or not all(map(is_comparable, chain(*rows))):
        return {}
    means, columns = list(map(mean, rows)), list(map(mean, zip(*rows, strict=True)))
    centre = mean(means)
    residuals = (
        value - means[i] - columns[j] + centre for i, row in enumerate(rows) for j, value in enumerate(row)
    )
    freedom = (n - 1) * (count - 1)
    variance = 2 * sum(residual**2 for residual in residuals) / freedom
    # Equal differences, apart from rounding, do not allow an estimate of the noise.
    if math.sqrt(variance) <= 1e-9 * max(map(abs, chain(*rows))):
        return {}
    sign = 1 if maximize else -1
    leader = max(range(count), key=lambda index: (sign * means[index], -index))
    spread = math.sqrt(variance * (seeds - n) / (n * seeds))
    return {
        candidate: float(stdtr(freedom, -sign * (means[leader] - means[index]) / spread))
        for index, candidate in enumerate(known)
        if index != leader
    }
