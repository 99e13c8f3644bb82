"""Decides by a model of learning curves which trial a free slot trains, and proposes new configurations.

A trial is trained on which has the highest probability to beat a random threshold within a random number of epochs
(MFPI-random of ifBO: Rakotoarison et al., "In-Context Freeze-Thaw Bayesian Optimization for Hyperparameter
Optimization", 2024, arXiv 2404.16795, with a Gaussian process in place of its network). Configurations that nobody has
trained compete with paused trials in the same way. Decisions depend on the study's seed and its curves alone, so that
all agents of a study decide alike, and a study that was interrupted goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from scipy.special import log_ndtr

from hpo.search.curve_model.curves import Curve, part_of, state_of
from hpo.search.curve_model.encoding import Encoding, Floats
from hpo.search.curve_model.gaussian_process import Hyperparameters
from hpo.search.curve_model.model import CurveModel
from objectives.base import Params

RANDOM = 200
"""Candidates that are drawn from the whole space."""
NEIGHBOURS = 20
"""Candidates near each of the best trials."""
LEADERS = 5
"""Best trials near which candidates are drawn."""
SEEN = 5
"""Trials that have a score before the model decides."""


@dataclass(kw_only=True)
class Scheduler:
    """The decisions of one study."""

    space: Mapping[str, BaseDistribution]
    epochs: int
    seed: int
    startup: int = 10
    """Configurations at random before the model decides."""
    hopeless: float = 0.05
    """Probability to become the best below which a paused trial does not go on where no configuration is left."""
    finalists: int = 3
    """Complete trials that a study has at least."""
    margin: float = 0.5
    """Logarithm of the factor by which a rival must be more probable before a running trial pauses for it: a pause
    costs a start, and fewer configurations, trained further, are better with many workers."""
    encoding: Encoding = field(init=False)
    _known: list[Curve] = field(default_factory=list, init=False)
    _last: CurveModel | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.encoding = Encoding(self.space)

    def ranking(self, curves: Sequence[Curve], begun: int, *, begins: bool) -> list[int | None]:
        """Return the trials that a free slot may train, the most promising one first; None: a new configuration.

        `begun` trials have begun; `begins`: whether another one may.
        """
        paused = [curve for curve in curves if curve.state == "paused" and np.isfinite(curve.score)]
        if not paused or (begins and self._starts(curves, begun)):
            return [None] if begins else []
        found = self._utilities(curves, paused, begun, begins=begins)
        return [trial for trial, _ in found]

    def continues(self, curves: Sequence[Curve], own: Curve, begun: int, *, begins: bool) -> bool:
        """Return whether a running trial goes on after the last epoch of its curve, which `curves` include."""
        if not np.isfinite(own.score):
            return False
        if begins and self._starts(curves, begun):
            return False
        if not begins and own.trial in self._finalists(*self._model(curves)):
            return True
        rivals = [curve for curve in curves if curve.state == "paused" and np.isfinite(curve.score)]
        found = dict(self._utilities(curves, [*rivals, own], begun, begins=begins))
        return own.trial in found and found[own.trial] + self.margin >= max(found.values())

    def propose(self, curves: Sequence[Curve], begun: int, rng: np.random.Generator) -> Params:
        """Return a new configuration."""
        if self._starts(curves, begun):
            return self.encoding.draw(1, rng)[0]
        model, known = self._model(curves)
        candidates = self._candidates(model, known, rng)
        found = self._probabilities(model, candidates, [0] * len(candidates), rng)
        return candidates[int(np.argmax(found))]

    def _starts(self, curves: Sequence[Curve], begun: int) -> bool:
        return begun < self.startup or len(curves) < SEEN

    def _utilities(
        self, curves: Sequence[Curve], trials: Sequence[Curve], begun: int, *, begins: bool
    ) -> list[tuple[int | None, float]]:
        """Return trials, and None for a new configuration, each with its utility, the largest first."""
        rng = np.random.default_rng([self.seed, 7, state_of(curves), begun])
        model, known = self._model(curves)
        candidates = self._candidates(model, known, rng) if begins else []
        if not begins:
            trials = self._hopeful(model, known, trials)
        configurations = [*(curve.params for curve in trials), *candidates]
        if not configurations:
            return []
        trained = [curve.epoch for curve in trials] + [0] * len(candidates)
        found = self._probabilities(model, configurations, trained, rng)
        ranked: list[tuple[int | None, float]] = [
            (curve.trial, float(value)) for curve, value in zip(trials, found, strict=False)
        ]
        if candidates:
            ranked.append((None, float(found[len(trials) :].max())))
        return sorted(ranked, key=lambda one: -one[1])

    def _hopeful(self, model: CurveModel, known: Sequence[Curve], trials: Sequence[Curve]) -> list[Curve]:
        """Return the trials that may become the best, look better than all complete ones, or are finalists."""
        if not trials:
            return []
        finalists = self._finalists(model, known)
        complete = [one.score for one in known if one.epoch == self.epochs]
        mean, deviation = model.predict([one.params for one in trials], np.full(len(trials), self.epochs))
        chances = log_ndtr((mean - model.best) / deviation)
        return [
            one
            for one, chance in zip(trials, chances, strict=True)
            if chance >= np.log(self.hopeless)
            or one.score < min(complete, default=np.inf)
            or one.trial in finalists
        ]

    def _finalists(self, model: CurveModel, known: Sequence[Curve]) -> set[int]:
        """Return the trials with the best predicted ends, as many as the study lacks complete ones."""
        missing = self.finalists - sum(one.epoch == self.epochs for one in known)
        trials = [one for one in known if one.state != "ended" and np.isfinite(one.score)]
        if missing <= 0 or not trials:
            return set()
        mean, _ = model.predict([one.params for one in trials], np.full(len(trials), self.epochs))
        return {trials[row].trial for row in np.argsort(-mean, kind="stable")[:missing]}

    def _probabilities(
        self,
        model: CurveModel,
        configurations: Sequence[Mapping[str, Any]],
        trained: Sequence[int],
        rng: np.random.Generator,
    ) -> Floats:
        """Return the logarithm of each probability to beat a threshold."""
        horizon = int(rng.integers(1, self.epochs + 1))
        threshold = model.best + 1.5 * model.spread * 10 ** -rng.uniform(1, 4)
        until = np.minimum(np.array(trained) + horizon, self.epochs)
        mean, deviation = model.predict(configurations, until)
        found: Floats = log_ndtr((mean - threshold) / deviation)
        return found

    def _model(self, curves: Sequence[Curve]) -> tuple[CurveModel, list[Curve]]:
        known = part_of(curves)
        # A trial that has just paused changes nothing, nor does a claim of one.
        if self._last is None or _learned(known) != _learned(self._known):
            self._last = CurveModel(self.encoding, self.epochs, known, self.scales(known))
        self._known = known
        return self._last, known

    def scales(self, curves: Sequence[Curve]) -> Hyperparameters | None:  # noqa: ARG002
        return None

    def _candidates(
        self, model: CurveModel, known: Sequence[Curve], rng: np.random.Generator
    ) -> list[Params]:
        found = self.encoding.draw(RANDOM, rng)
        for row in np.argsort(-model.last, kind="stable")[:LEADERS]:
            found += self.encoding.near(known[row].params, NEIGHBOURS, rng)
        return found


def _learned(curves: Sequence[Curve]) -> list[tuple[int, Mapping[int, float]]]:
    return [(curve.ordinal, curve.scores) for curve in curves]
