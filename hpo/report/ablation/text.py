"""Findings of an experiment as sentences, the same in a terminal, a report and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpo import formatting
from hpo.analysis.ablation.contrasts import Contrast
from hpo.analysis.ablation.effects import Ablation, PairEffect
from hpo.analysis.ablation.verdicts import Class, ParameterEffect, ValueEffect, Verdict
from hpo.analysis.figures import is_share


class Wording:
    """Differences and findings of one experiment as text."""

    def __init__(self, ablation: Ablation) -> None:
        self.ablation = ablation
        values = ablation.measurements.values
        self.is_share = is_share(ablation.measurements.metric, map(float, values[np.isfinite(values)]))

    def scaled(self, difference: float) -> float:
        """Return a difference in points, or in units of the metric."""
        return 100 * difference if self.is_share else difference

    @property
    def unit(self) -> str:
        """Unit of scaled differences for titles and headers."""
        return "points" if self.is_share else self.ablation.measurements.metric

    def size(self, difference: float) -> str:
        """Return a difference without sign: `0.31 points`."""
        return f"{self._number(abs(difference))} points" if self.is_share else self._number(abs(difference))

    def signed(self, difference: float) -> str:
        shown = self._number(abs(difference))
        return shown if float(shown) == 0 else f"{'+' if difference > 0 else '−'}{shown}"

    def _number(self, difference: float) -> str:
        scaled = self.scaled(difference)
        if self.is_share:
            return f"{scaled:.2f}"
        return formatting.metric(scaled)

    def effect(self, contrast: Contrast) -> str:
        """Return `−0.31 [−0.52, −0.10]`."""
        if not contrast.n:
            return "-"
        shown = self.signed(contrast.effect)
        if contrast.interval is None:
            return shown
        low, high = contrast.interval
        return f"{shown} [{self.signed(low)}, {self.signed(high)}]"

    def finding(self, effect: ParameterEffect) -> str:
        """Return the finding on a parameter as a sentence without its name."""
        match effect.verdict:
            case Verdict.SAFE:
                return self._safe(effect)
            case Verdict.NOT_RESOLVED:
                return self._not_resolved(effect)
        parts = [self._better(effect), self._harmful(effect), *self._with_partner(effect), self._rest(effect)]
        return "; ".join(part for part in parts if part)

    def _safe(self, effect: ParameterEffect) -> str:
        if all(one.kind is Class.SAME for one in effect.others):
            return "changes nothing: all runs are the same to the last digit"
        largest = max(
            max(abs(end) for end in one.contrast.interval)
            for one in effect.others
            if one.contrast is not None and one.contrast.interval is not None
        )
        return f"no tried value changes the result by more than {self.size(largest)}"

    def _not_resolved(self, effect: ParameterEffect) -> str:
        seeds = len(self.ablation.design.seeds)
        counted = formatting.counted(seeds, "seed")
        if self.ablation.measurements.ignores_seed:
            return "the runs do not depend on the seed, so that chance is not known"
        if self.ablation.noise is None:
            return (
                f"{counted} cannot distinguish an effect from chance: 3 seeds would"
                if seeds < 2
                else "too few runs have ended"
            )
        ends = [
            max(abs(end) for end in one.contrast.interval)
            for one in effect.others
            if one.contrast is not None and one.contrast.interval is not None
        ]
        most = f"any effect is below {self.size(max(ends))}; " if ends else ""
        return f"{most}{self._seeds(effect)}"

    def _seeds(self, effect: ParameterEffect) -> str:
        seeds = formatting.counted(len(self.ablation.design.seeds), "seed")
        if any(one.kind is Class.MISSING for one in effect.others):
            return "some runs have not ended"
        if effect.seeds_needed is None:
            return f"{seeds} do not decide, nor would 100"
        needed = max(effect.seeds_needed, len(self.ablation.design.seeds) + 1)
        return f"{seeds} do not decide: about {needed} would"

    def _better(self, effect: ParameterEffect) -> str:
        better = [one for one in effect.values if one.kind is Class.BETTER]
        if not better:
            return ""
        best = max(better, key=lambda one: one.contrast.effect if one.contrast is not None else -math.inf)
        assert best.contrast is not None
        return (
            f"{self.value(best)} is better than {self.value(effect.base)} by {self.size(best.contrast.effect)}"
            f"{self._interval(best.contrast)}"
        )

    def _harmful(self, effect: ParameterEffect) -> str:
        harmful = [one for one in effect.values if one.kind.is_harmful]
        if not harmful:
            return ""
        if effect.below is None and effect.above is None:
            return "; ".join(self._worse(one, effect) for one in harmful)
        where = []
        if effect.below is not None:
            where.append(f"below {formatting.parameter(effect.below)}")
        if effect.above is not None:
            where.append(f"above {formatting.parameter(effect.above)}")
        worst = max(harmful, key=_harm)
        inside = [one for one in harmful if self._is_inside(one, effect)]
        beyond = "" if effect.verdict is Verdict.HARMFUL else f"harmful {' and '.join(where)}: "
        texts = [f"{beyond}{self._worse(worst, effect)}"]
        texts += [self._worse(one, effect) for one in inside if one is not worst]
        return "; ".join(texts)

    def _with_partner(self, effect: ParameterEffect) -> Sequence[str]:
        """Return for each harmful value that it is not with another value of the parameter of its pair."""
        harmful = [one.value for one in effect.values if one.kind.is_harmful]
        return [
            f"with {pair.second} {formatting.parameter(cell.second)}, {formatting.parameter(cell.first)} is not clearly"
            " worse"
            for pair in self.ablation.interactions
            if pair.first == effect.parameter
            for cell in pair.pays
            if cell.first in harmful and cell.kind in (Class.EQUAL, Class.OPEN, Class.BETTER)
        ]

    def _is_inside(self, one: ValueEffect, effect: ParameterEffect) -> bool:
        return (effect.below is None or one.value > effect.below) and (
            effect.above is None or one.value < effect.above
        )

    def _worse(self, one: ValueEffect, effect: ParameterEffect) -> str:
        seeds = len(self.ablation.design.seeds)
        if one.kind is Class.FAILED:
            return f"{one.failed} of {formatting.counted(seeds, 'run')} with {self.value(one)} ended without a value"
        assert one.contrast is not None
        if one.kind is Class.UNSTABLE:
            return (
                f"{self.value(one)} is unreliable: {self.size(one.contrast.effect)} worse on average, and very"
                " different from seed to seed"
            )
        return (
            f"{self.value(one)} is worse than {self.value(effect.base)} by {self.size(one.contrast.effect)}"
            f"{self._interval(one.contrast)}"
        )

    def _interval(self, contrast: Contrast) -> str:
        if contrast.interval is None:
            return ""
        low, high = sorted(abs(self.scaled(end)) for end in contrast.interval)
        shown = (f"{end:.2f}" if self.is_share else formatting.metric(end) for end in (low, high))
        return f" ({' to '.join(shown)})"

    def _rest(self, effect: ParameterEffect) -> str:
        rest = [one for one in effect.others if not one.kind.is_harmful and one.kind is not Class.BETTER]
        if not rest:
            return ""
        if all(one.kind in (Class.EQUAL, Class.SAME) for one in rest):
            return "the other values make no difference"
        return f"between the other values {self._seeds(effect)}"

    def value(self, one: ValueEffect) -> str:
        """Return a value as text."""
        return formatting.parameter(one.value)

    def verdict(self, effect: ParameterEffect) -> str:
        """Return the verdict in full: `harmful above 0.4`."""
        if effect.verdict is Verdict.NOT_RESOLVED:
            return f"not resolved with {formatting.counted(len(self.ablation.design.seeds), 'seed')}"
        if effect.parameter in self.ablation.design.recipe:
            return self._switch_verdict(effect)
        if effect.verdict is not Verdict.HARMFUL:
            return str(effect.verdict)
        if effect.above is not None:
            return f"harmful above {formatting.parameter(effect.above)}"
        return f"harmful below {formatting.parameter(effect.below)}"

    @staticmethod
    def _switch_verdict(effect: ParameterEffect) -> str:
        (off,) = effect.others
        if effect.verdict is Verdict.SAFE:
            return "makes no difference"
        return "worth keeping" if off.kind.is_harmful else "better left out"

    def pair(self, effect: PairEffect) -> str:
        """Return the finding on a pair as a sentence."""
        first, second, base = effect.first, effect.second, self.ablation.design.base
        if effect.pays:
            moves = "; ".join(
                f"with {first} {formatting.parameter(cell.first)}, {second} {formatting.parameter(cell.second)} is"
                f" better than {formatting.parameter(base[second])} by {self.size(cell.within.effect)}"
                f"{self._interval(cell.within)}"
                for cell in effect.pays
                if cell.within is not None
            )
            return f"{moves}; {self._reached(effect)}"
        if effect.verdict is Verdict.TUNE_APART:
            return f"with no other {first} does another {second} gain more than {self.size(self.ablation.margin)}"
        return f"whether {second} needs another value with another {first} is not decided by these seeds"

    def _reached(self, effect: PairEffect) -> str:
        """Return how the best combinations compare with the base."""
        known = [cell.against_base for cell in effect.pays if cell.against_base is not None]
        best = max(known, key=lambda one: one.effect)
        kind = self.ablation.kind(best.point)
        against = {
            Class.BETTER: "better than the base",
            Class.WORSE: "still worse than the base",
            Class.EQUAL: "as good as the base",
        }.get(kind, "not clearly different from the base")
        return f"the best of these is {against}: {self.effect(best)}"


def _harm(one: ValueEffect) -> float:
    if one.contrast is None or not math.isfinite(one.contrast.effect):
        return math.inf
    return -one.contrast.effect


def warnings_of(ablation: Ablation) -> Sequence[str]:
    """Return sentences on the limits of the experiment as a whole."""
    found, measurements = [], ablation.measurements
    noise, values = ablation.noise, measurements.values
    left = ablation.design.size - measurements.finished
    if left:
        found.append(f"{left} of {ablation.design.size} runs have not finished, so these results may change.")
    if measurements.failed[0].any():
        failed = int(measurements.failed[0].sum())
        found.append(
            f"{failed} of {formatting.counted(len(ablation.design.seeds), 'run')} of the base itself ended without a"
            " value: its seeds are left out, and another --trial is a safer base."
        )
    if noise is not None and 0 in noise.unstable:
        found.append(
            "The base itself is unstable: its runs differ more from seed to seed than those of other configurations, so"
            " that nothing can be compared with it. Another --trial is a safer base."
        )
    if measurements.ignores_seed:
        found.append(
            "All runs of a configuration are the same to the last digit: the objective does not use its seed, so that"
            " the part of chance is not known, and more seeds add nothing. Use run.seed for all that is random."
        )
    elif noise is None and np.isfinite(values).any():
        found.append("No configuration has run from two seeds, so that chance is not known: raise --seeds.")
    elif noise is not None and noise.deviation == 0:
        found.append(
            "The metric is the same from seed to seed: it has reached its limit, or too few examples measure it."
        )
    return found
