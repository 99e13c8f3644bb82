"""Effects of parameters: planted effects are found, and noise is not reported as an effect."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpo.analysis import effects as effects_module
from hpo.analysis.effects import MIN_TRIALS, find_effects, trials_needed
from hpo.analysis.figures import amount
from hpo.analysis.importance import importances
from hpo.search.choice_text import labels
from objectives.shipped.cifar_resnet import CifarResNet
from objectives.spaces.choices import categorical, identity
from tests.unit.made_trials import SPACE, compared


def flat(_: object) -> float:
    return 0.9


def dropped(params) -> float:
    """A dropout above 0.2 costs 5 points for each 0.1."""
    return 0.95 - 0.5 * max(0.0, params["dropout"] - 0.2)


def claimed(effects) -> set[str]:
    found = {effect.parameter for effect in effects if effect.stands_out}
    assert found == {effect.parameter for effect in effects if " worse than " in effect.finding}
    return found


def test_noise_is_not_an_effect() -> None:
    # Of 40 studies without any effect, 2 would have one claimed at 5 %; 6 or more have a probability of 1.4 %.
    wrong = sum(bool(claimed(find_effects(compared(30, seed, flat)))) for seed in range(40))
    assert wrong < 6


def test_planted_effect_is_found_but_not_in_correlated_parameter() -> None:
    found = Counter(
        name
        for seed in range(10)
        for name in claimed(find_effects(compared(40, seed, dropped, noise=0.01, entangled=True)))
    )
    assert found["dropout"] == 10
    assert all(found[name] <= 2 for name in SPACE if name != "dropout")


@pytest.mark.parametrize("choices", [["1", 1, True], [[1], [True]]], ids=str)
def test_choices_that_look_the_same_have_effects_of_their_own(choices: list[Any]) -> None:
    space = {"optimizer": categorical(choices), "learning_rate": FloatDistribution(1e-4, 1.0, log=True)}
    last = identity(choices[-1])

    def better(params) -> float:
        return 0.9 + 0.05 * (identity(params["optimizer"]) == last)

    trials = compared(60, 1, better, space=space)
    found = {effect.parameter: effect for effect in find_effects(trials)}
    assert len(found) == 1 + len(choices)
    assert found["optimizer"].best == labels(space["optimizer"])[-1]  # type: ignore[arg-type]
    assert found["optimizer"].best != found["optimizer"].worst
    assert importances(trials) is not None


def test_learning_rate_has_one_effect_for_each_optimizer() -> None:
    """SGD is best at 0.1 and Adam at 0.001, so one curve for both would show no effect."""
    space = {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
    }

    def tuned(params) -> float:
        best = {"sgd": 0.1, "adam": 0.001}[params["optimizer"]]
        return 0.95 - 0.03 * math.log10(params["learning_rate"] / best) ** 2

    effects = {
        effect.parameter: effect for effect in find_effects(compared(40, 1, tuned, noise=0.01, space=space))
    }
    assert claimed(effects.values()) >= {"learning_rate with adam", "learning_rate with sgd"}
    assert not effects["dropout"].stands_out
    # Adam was tried with learning rates further from its best than those of SGD, as the sentence states.
    assert effects["optimizer"].finding.startswith(
        "adam is 3.5 points worse than sgd, each with the learning_rate tried"
    )
    for optimizer, best in (("sgd", 0.1), ("adam", 0.001)):
        found = float(effects[f"learning_rate with {optimizer}"].best or 0)
        assert abs(math.log10(found / best)) < 0.5

    def alone(params) -> float:
        return tuned(params | {"optimizer": "sgd"})

    rare = compared(40, 1, alone, noise=0.01, space=space)
    few = [one for one in rare.trials if one.trial.params["optimizer"] == "adam"][:4]
    many = [one for one in rare.trials if one.trial.params["optimizer"] == "sgd"]
    effects = {effect.parameter: effect for effect in find_effects(replace(rare, trials=(*many, *few)))}
    assert effects["learning_rate with adam"].finding == "too few trials (4)"


def test_noise_is_not_an_effect_with_the_fewest_trials_of_shipped_objectives() -> None:
    space = CifarResNet.space
    assert trials_needed(compared(40, 0, flat, space=space)) == 30
    wrong = sum(bool(claimed(find_effects(compared(30, seed, flat, space=space)))) for seed in range(40))
    assert wrong < 6


def test_effect_has_size_and_direction() -> None:
    effects = {effect.parameter: effect for effect in find_effects(compared(60, 1, dropped, noise=0.01))}
    dropout = effects["dropout"]
    assert dropout.interval95 is not None
    low, high = dropout.interval95
    # A quadratic curve only approximates the kink.
    truth = 0.5 * (float(dropout.worst or 0) - 0.2)
    assert 0.1 < low < truth + 0.01
    assert truth - 0.03 < high < 0.25
    assert dropout.cost == pytest.approx(truth, abs=0.03)
    assert float(dropout.worst or 0) > 0.45
    assert float(dropout.best or 1) < 0.3
    assert f"{dropout.worst} is {100 * dropout.cost:.1f} points worse than {dropout.best}" in dropout.finding
    assert "no significant effect" in effects["optimizer"].finding


def test_effects_of_fixed_trials_have_known_values() -> None:
    found = find_effects(compared(60, 1, dropped, noise=0.01))
    assert [effect.p_value for effect in found] == [0.002, 0.012, 0.407, 0.97]
    assert [effect.cost for effect in found] == pytest.approx(
        [0.15804311179, 0.00642740134, 0.00700330205, 0.00190585719], abs=1e-10
    )
    assert [effect.interval95 for effect in found] == [
        pytest.approx(interval, abs=1e-10)
        for interval in [
            (0.15051193699, 0.16736540832),
            (0.00014322801, 0.01349312572),
            (-0.00078499823, 0.01324384923),
            (-0.00440458863, 0.00871328689),
        ]
    ]


@pytest.mark.parametrize("kind", ["full", "rare", "twice", "nearly twice", "scaled"])
def test_bootstrap_samples_are_fitted_together_as_each_by_itself(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    numbers, values = rng.random((40, 3)), rng.random(40)
    columns = {
        "full": numbers,
        # Many samples have no trial with this level.
        "rare": np.column_stack([numbers, (np.arange(40) == 7) - 1 / 40]),
        "twice": np.column_stack([numbers, numbers[:, 0]]),
        # The rank of each sample is not clear from its moments.
        "nearly twice": np.column_stack([numbers, numbers[:, 0] + 1e-5 * rng.random(40)]),
        "scaled": numbers * [1.0, 1e-3, 1e3],
    }
    model = np.column_stack([np.ones(40), columns[kind]])
    monkeypatch.setattr(effects_module, "MOST_CELLS", 40 * 300)
    found = effects_module._fits(model, values, np.random.default_rng(2))
    draws = np.random.default_rng(2)
    samples = [np.arange(40), *(draws.integers(0, 40, 40) for _ in range(effects_module.BOOTSTRAPS))]
    each = [np.linalg.lstsq(model[rows], values[rows], rcond=None)[0] for rows in samples]
    assert found == pytest.approx(np.array(each), rel=1e-6, abs=1e-6)


def test_effect_when_metric_is_minimized() -> None:
    comparison = compared(
        50, 3, lambda p: 1.0 + (p["optimizer"] == "sgd"), noise=0.1, maximize=False, metric="loss"
    )
    effects = {effect.parameter: effect for effect in find_effects(comparison)}
    assert effects["optimizer"].finding.startswith("sgd is ")
    assert effects["optimizer"].cost == pytest.approx(1.0, abs=0.15)
    assert "points" not in effects["optimizer"].finding


def test_effect_below_seed_noise_is_negligible() -> None:
    effects = find_effects(compared(60, 5, flat, noise=0.002), seed_noise=0.01)
    assert {effect.finding for effect in effects} == {
        "negligible: its values differ by less than seed noise (1.0 points)"
    }


def test_outlier_does_not_decide_the_effect() -> None:
    def broken(params) -> float:
        return 0.1 if params["layers"] == 8 and params["dropout"] < 0.3 else dropped(params)

    effects = {effect.parameter: effect for effect in find_effects(compared(80, 2, broken, noise=0.01))}
    assert effects["dropout"].worst is not None
    assert float(effects["dropout"].worst) > 0.4


def test_effect_of_a_single_parameter() -> None:
    whole = compared(40, 4, dropped)
    alone = replace(whole, space={"dropout": SPACE["dropout"]})
    (effect,) = find_effects(alone)
    assert " worse than " in effect.finding
    assert importances(alone) == {"dropout": pytest.approx(1)}


def test_too_few_trials_report_no_effect() -> None:
    comparison = compared(12, 1, dropped)
    needed = trials_needed(comparison)
    assert needed == max(MIN_TRIALS, math.ceil(2.5 * 8))
    effects = find_effects(comparison)
    assert {effect.finding for effect in effects} == {f"too few trials (12 compared, {needed} needed)"}
    assert all(effect.p_value is None for effect in effects)
    assert importances(comparison) is None


def test_equal_values_report_no_effect() -> None:
    comparison = compared(30, 1, flat, noise=0.0)
    assert {effect.finding for effect in find_effects(comparison)} == {"all trials have the same value"}


def test_same_trials_give_the_same_findings() -> None:
    comparison = compared(30, 9, dropped)
    assert find_effects(comparison) == find_effects(comparison)


@pytest.mark.parametrize("maximize", [True, False])
def test_importance_finds_the_planted_parameter(maximize: bool) -> None:
    sign = 1 if maximize else -1
    found = importances(compared(60, 1, lambda p: sign * dropped(p), maximize=maximize))
    assert found is not None
    assert next(iter(found)) == "dropout"
    assert sum(found.values()) == pytest.approx(1)


def test_amount_of_a_share_is_in_points() -> None:
    assert amount(0.0123, "val_accuracy") == "1.2 points"
    assert amount(0.0123, "loss") == "0.0123"


def test_ranks_of_ties_are_the_mean_of_theirs() -> None:
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    for values in (rng.normal(size=50), rng.integers(0, 5, 50).astype(float), np.zeros(3), np.array([1.0])):
        np.testing.assert_array_equal(effects_module._ranks(values), rankdata(values))
