"""All that an experiment has measured: its noise, the effect of each parameter, and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.analysis.ablation.contrasts import Contrast, Pair, contrasts_of
from hpo.analysis.ablation.measurements import Measurements, measured
from hpo.analysis.ablation.noise import Noise, noise_of
from hpo.analysis.ablation.verdicts import (
    Class,
    ParameterEffect,
    ValueEffect,
    Verdict,
    class_of,
    judged,
    margin_of,
    seeds_to_resolve,
)
from hpo.search.space import place_of
from hpo.study.history import StudyHistory
from objectives.runs.switches import OFF, ON
from objectives.spaces.choices import identity


@dataclass(frozen=True, kw_only=True)
class PairCell:
    """One combination of two parameters that both differ from the base, or one of them."""

    first: Any
    second: Any
    against_base: Contrast | None
    """Comparison with the base; None for the base."""
    within: Contrast | None
    """Comparison with the same first value and the base's second one; None where it has the base's second value."""
    kind: Class


@dataclass(frozen=True, kw_only=True)
class PairEffect:
    """Two parameters, varied together."""

    first: str
    second: str
    cells: Sequence[PairCell]
    verdict: Verdict
    pays: Sequence[PairCell]
    """For each first value, the best second one, where it is better than the base's second one."""


class Ablation:
    """The results of an experiment's study."""

    def __init__(self, measurements: Measurements, space: Mapping[str, BaseDistribution]) -> None:
        self.measurements = measurements
        self.space = space
        self.design = measurements.design

    @classmethod
    def of(cls, history: StudyHistory) -> Ablation:
        return cls(measured(history), history.space)

    @cached_property
    def noise(self) -> Noise | None:
        """Noise of the runs; None where no seed repeats, or the runs do not depend on it."""
        if self.measurements.ignores_seed:
            return None
        alone: dict[str, list[int]] = {}
        for place, point in enumerate(self.design.points):
            if len(point.changed) == 1:
                alone.setdefault(point.changed[0], []).append(place)
        return noise_of(self.measurements.values, list(alone.values()))

    @cached_property
    def margin(self) -> float:
        """Smallest difference that matters, in units of the metric."""
        return margin_of(self.measurements, self.noise)

    @cached_property
    def pairs(self) -> list[Pair]:
        """All comparisons of the experiment: each point with the base, and combinations with their row."""
        return [*((point, 0) for point in range(1, len(self.design.points))), *self._rows]

    @cached_property
    def _rows(self) -> list[Pair]:
        found = []
        for place, point in enumerate(self.design.points):
            if len(point.changed) == 2:
                row = self._place({**self.design.base, point.changed[0]: point.params[point.changed[0]]})
                found += [] if row is None else [(place, row)]
        return found

    @cached_property
    def contrasts(self) -> dict[Pair, Contrast]:
        found = contrasts_of(self.measurements.values, self.pairs, self.noise)
        return {(one.point, one.against): one for one in found}

    def kind(self, point: int) -> Class:
        """Return the class of a point."""
        if point == 0:
            return Class.BASE
        return class_of(self.measurements, self.contrasts[point, 0], self.noise, self.margin)

    def _place(self, params: Mapping[str, Any]) -> int | None:
        wanted = identity(dict(params))
        return next(
            (place for place, point in enumerate(self.design.points) if identity(point.params) == wanted),
            None,
        )

    @cached_property
    def parameters(self) -> list[ParameterEffect]:
        """The parameters that vary alone, in the order of the space."""
        changed = {point.changed[0]: None for point in self.design.points if len(point.changed) == 1}
        order = [*self.space, *changed]
        return [self._parameter(name) for name in dict.fromkeys(order) if name in changed]

    def _parameter(self, name: str) -> ParameterEffect:
        places = [place for place, point in enumerate(self.design.points) if point.changed in ((), (name,))]
        switch = name in self.design.recipe
        distribution = None if switch else self.space.get(name)
        values = [self._value(name, place, switch=switch) for place in places]
        if isinstance(distribution, CategoricalDistribution):
            values.sort(key=lambda one: place_of(one.value, distribution))
        elif distribution is not None:
            values.sort(key=lambda one: float(one.value))
        unresolved = [
            one.contrast
            for one in values
            if one.contrast is not None and one.kind in (Class.OPEN, Class.MISSING)
        ]
        needed = seeds_to_resolve(unresolved, self.pairs, self.noise, self.margin) if unresolved else None
        return judged(name, values, distribution, seeds_needed=needed)

    def _value(self, name: str, place: int, *, switch: bool) -> ValueEffect:
        point = self.design.points[place]
        value = (OFF if place else ON) if switch else point.params[name]
        return ValueEffect(
            value=value,
            contrast=None if place == 0 else self.contrasts[place, 0],
            kind=self.kind(place),
            failed=int(self.measurements.failed[place].sum()),
        )

    @cached_property
    def interactions(self) -> list[PairEffect]:
        """The pairs that vary together."""
        found = dict.fromkeys(point.changed for point in self.design.points if len(point.changed) == 2)
        return [self._pair(first, second) for first, second in found]

    def _pair(self, first: str, second: str) -> PairEffect:
        base = self.design.base
        cells = []
        for place, point in enumerate(self.design.points):
            if not set(point.changed) <= {first, second}:
                continue
            row = self._place({**base, first: point.params[first]})
            within = None if row is None or row == place else self.contrasts.get((place, row))
            cells.append(
                PairCell(
                    first=point.params[first],
                    second=point.params[second],
                    against_base=None if place == 0 else self.contrasts[place, 0],
                    within=within,
                    kind=self.kind(place),
                )
            )
        moved = [cell for cell in cells if identity(cell.first) != identity(base[first])]
        pays = [
            best for value in _distinct(moved) if (best := _best_move(moved, value, self.margin)) is not None
        ]
        settled = all(
            cell.within is None or cell.within.interval is None or cell.within.interval[1] <= self.margin
            for cell in moved
        )
        known = self.noise is not None and any(cell.within is not None for cell in moved)
        verdict = (
            Verdict.TUNE_TOGETHER
            if pays
            else Verdict.TUNE_APART
            if settled and known
            else Verdict.NOT_RESOLVED
        )
        return PairEffect(first=first, second=second, cells=cells, verdict=verdict, pays=pays)


def _distinct(cells: Sequence[PairCell]) -> list[Any]:
    return list({identity(cell.first): cell.first for cell in cells}.values())


def _best_move(cells: Sequence[PairCell], first: Any, margin: float) -> PairCell | None:
    """Return the combination with a first value that is most clearly better than with the base's second value."""
    better = [
        (cell.within.effect, place)
        for place, cell in enumerate(cells)
        if identity(cell.first) == identity(first)
        and cell.within is not None
        and cell.within.is_better
        and cell.within.effect > margin
    ]
    return cells[max(better)[1]] if better else None
