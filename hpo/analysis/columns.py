"""Columns of the model of effects: the parameters that a study varied, as features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo import formatting
from hpo.analysis.common_epoch import Comparison
from hpo.search.choice_text import label, labels
from hpo.search.space import from_unit, place_of, to_unit

Floats = NDArray[np.float64]

TRIALS_PER_COEFFICIENT = 2.5
NESTED = {"learning_rate": "optimizer"}
"""Numeric parameters that get one curve for each choice of another parameter: the best learning rates of Adam and SGD
differ by orders of magnitude."""


@dataclass(frozen=True)
class Column:
    """One parameter in the model, or one choice of a nested parameter."""

    name: str
    distribution: BaseDistribution
    values: Sequence[Any]
    """Values in the trials that this column covers."""
    rows: NDArray[np.bool_]
    """Mask of these trials among all compared trials."""

    @property
    def choices(self) -> list[Any]:
        """Tried choices in the order of the space."""
        assert isinstance(self.distribution, CategoricalDistribution)
        return [self.distribution.choices[place] for place in self._places]

    @cached_property
    def _places(self) -> list[int]:
        assert isinstance(self.distribution, CategoricalDistribution)
        return sorted({place_of(value, self.distribution) for value in self.values})

    @property
    def is_choice(self) -> bool:
        return isinstance(self.distribution, CategoricalDistribution)

    def features(self, values: Sequence[Any]) -> Floats:
        """Return (n, k): for a number its position in 0..1 on its search scale and the square; else a level each."""
        if isinstance(self.distribution, CategoricalDistribution):
            tried = [place_of(value, self.distribution) for value in values]
            return np.array([[float(one == place) for place in self._places[1:]] for one in tried])
        place = np.array([to_unit(value, self.distribution) for value in values])
        distinct = len({repr(value) for value in self.values})
        return np.column_stack([place, place**2] if distinct > 2 else [place])

    def block(self) -> Floats:
        """Return (trials, k): the design columns, zero for other trials; k is 0 with too few trials for a curve.

        They are centred, so that the outer parameter is compared at the mean of the nested values tried with each
        choice and not at their low end.
        """
        if not self.is_judged:
            return np.zeros((len(self.rows), 0))
        found = np.zeros((len(self.rows), self.coefficients))
        features = self.features(self.values)
        found[self.rows] = features - features.mean(axis=0)
        return found

    @property
    def coefficients(self) -> int:
        return int(self.features(self.values[:1]).shape[1])

    @property
    def is_judged(self) -> bool:
        """Whether there are enough trials for its coefficients."""
        return len(self.values) >= TRIALS_PER_COEFFICIENT * (1 + self.coefficients)

    def text(self, value: Any) -> str:
        """Return a value as text; no two choices have the same."""
        if isinstance(self.distribution, CategoricalDistribution):
            return label(self.distribution, value)
        return formatting.parameter(value)

    def tried(self) -> list[Any]:
        """Return the values at which to evaluate the effect: every choice, or 21 steps over the middle 80 %."""
        if self.is_choice:
            return self.choices
        ordered = sorted(self.values, key=lambda value: to_unit(value, self.distribution))
        inner = ordered[len(ordered) // 10 : len(ordered) - len(ordered) // 10]
        low, high = (to_unit(value, self.distribution) for value in (inner[0], inner[-1]))
        return [from_unit(place, self.distribution) for place in np.linspace(low, high, 21)]


def columns_of(comparison: Comparison) -> list[Column]:
    """Return the varied parameters, those in `NESTED` once for each choice of a varied outer parameter."""
    found = []
    for name in comparison.varied:
        # Trials that do not use a parameter are not evidence about it.
        used = np.array([name in one.trial.params for one in comparison.trials])
        values = [one.trial.params[name] for one in comparison.trials if name in one.trial.params]
        whole = Column(name, comparison.space[name], values, used)
        other = NESTED.get(name)
        outer = comparison.space[other] if other in comparison.varied else None
        lacking = not used.all() or (other is not None and comparison.lacks(other))
        if other is None or whole.is_choice or lacking or not isinstance(outer, CategoricalDistribution):
            found.append(whole)
            continue
        held = [place_of(one.trial.params[other], outer) for one in comparison.trials]
        texts = labels(outer)
        for place in sorted(set(held), key=lambda place: texts[place]):
            rows = np.array([one == place for one in held])
            members = [value for value, member in zip(values, rows, strict=True) if member]
            found.append(Column(f"{name} with {texts[place]}", comparison.space[name], members, rows))
    return found
