"""PED-ANOVA's importance of each parameter."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.analysis.common_epoch import Comparison
from hpo.analysis.effects import MIN_TRIALS
from hpo.search.space import place_of

TOP_TRIALS = 5
"""Trials that PED-ANOVA needs above its quantile, as its own documentation recommends."""


def importances(comparison: Comparison) -> dict[str, float] | None:
    """Return PED-ANOVA's importance of each parameter, the largest first; None with too few trials.

    It measures how much the best trials (a tenth, at least five) agree in a parameter (Watanabe et al., 2023), not
    the size of its effect.
    """
    n = len(comparison.trials)
    # The best trials can only agree in a parameter that all of them have.
    varied = [name for name in comparison.varied if not comparison.lacks(name)]
    if n < MIN_TRIALS or not varied:
        return None
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize" if comparison.maximize else "minimize")
        # Optuna hashes distributions, so choices that are lists become their indices.
        space = {name: _hashable(comparison.space[name]) for name in varied}
        study.add_trials(
            optuna.trial.create_trial(
                params={name: _hashed(one.trial.params[name], comparison.space[name]) for name in space},
                distributions=space,
                value=one.value,
            )
            for one in comparison.trials
        )
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, TOP_TRIALS / n))
        found = get_param_importances(study, evaluator=evaluator, params=varied)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _hashable(distribution: BaseDistribution) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution(range(len(distribution.choices)))
    return distribution


def _hashed(value: Any, distribution: BaseDistribution) -> Any:
    return place_of(value, distribution) if isinstance(distribution, CategoricalDistribution) else value
