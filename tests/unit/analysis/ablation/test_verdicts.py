"""Verdicts on parameters of simulated experiments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpo.analysis.ablation.effects import Ablation
from hpo.analysis.ablation.verdicts import Class, ParameterEffect, Verdict
from hpo.report.ablation.text import Wording, warnings_of
from hpo.search.starting.design import Design, Settings
from tests.unit.analysis.ablation.simulated import ablation_of, design_of, noisy

NOISE = 0.0004


def values_of(design: Design, effects: dict[tuple[str, object], float], seed: int = 0) -> np.ndarray:
    """Return values with an effect for each changed parameter and value, all others without one."""
    found = [
        sum(effects.get((name, point.params[name]), 0.0) for name in point.changed) for point in design.points
    ]
    return noisy(found, len(design.seeds), np.random.default_rng(seed), NOISE)


def effect_of(ablation: Ablation, name: str) -> ParameterEffect:
    return next(one for one in ablation.parameters if one.parameter == name)


def judged(design: Design, effects: dict[tuple[str, object], float], name: str) -> tuple[Verdict, str, str]:
    wording = Wording(ablation_of(design, values_of(design, effects)))
    effect = effect_of(wording.ablation, name)
    return effect.verdict, wording.verdict(effect), wording.finding(effect)


def test_parameter_without_an_effect_is_safe_to_leave() -> None:
    verdict, _, finding = judged(design_of(Settings(seeds=5, pairs=())), {}, "dropout")
    assert verdict is Verdict.SAFE
    assert finding.startswith("no tried value changes the result by more than 0.")


def test_tail_of_worse_values_is_harmful_beyond_the_last_good_one() -> None:
    design = design_of()
    values = sorted(p.params["dropout"] for p in design.points if p.changed == ("dropout",))
    assert values == [0.0, 0.1, 0.4, 0.6]
    verdict, shown, finding = judged(design, {("dropout", 0.4): -0.02, ("dropout", 0.6): -0.5}, "dropout")
    assert (verdict, shown) == (Verdict.HARMFUL, "harmful above 0.2")
    assert finding.startswith("0.6 is worse than 0.2 by 50")
    assert finding.endswith(("the other values make no difference", "would"))
    _, shown, _ = judged(design, {("dropout", 0.0): -0.02}, "dropout")
    assert shown == "harmful below 0.1"


@pytest.mark.parametrize(
    ("name", "effects", "expected"),
    [
        ("optimizer", {("optimizer", "sgd"): -0.0205}, "sgd is worse than adam by 2."),
        (
            "learning_rate",
            {("learning_rate", 1e-4): -0.3, ("learning_rate", 1e-1): -0.04},
            "harmful below 0.001 and above 0.01: 0.0001 is worse than 0.01 by 30",
        ),
        ("dropout", {("dropout", 0.1): 0.02}, "0.1 is better than 0.2 by 2."),
        ("dropout", {("dropout", 0.1): -0.02}, "0.1 is worse than 0.2 by 2."),
    ],
)
def test_better_value_or_worse_ones_around_the_base_are_worth_tuning(name, effects, expected) -> None:
    verdict, shown, finding = judged(design_of(), effects, name)
    assert (verdict, shown) == (Verdict.WORTH_TUNING, "worth tuning")
    assert expected in finding


def test_part_of_a_recipe_is_worth_keeping_better_left_out_or_makes_no_difference() -> None:
    names = ("recipe.augmentation", "recipe.label_smoothing", "recipe.class_weight")
    design = design_of(Settings(recipe=True, pairs=(), seeds=5), recipe=dict.fromkeys(names, "on"))
    effects = {(names[0], "off"): -0.02, (names[1], "off"): 0.02}
    wording = Wording(ablation_of(design, values_of(design, effects)))
    assert [wording.verdict(effect_of(wording.ablation, name)) for name in names] == [
        "worth keeping",
        "better left out",
        "makes no difference",
    ]


def test_small_effect_is_not_resolved_until_the_seeds_that_are_named() -> None:
    design = design_of()
    effects = {("dropout", 0.4): -0.0012}
    wording = Wording(ablation_of(design, values_of(design, effects)))
    effect = effect_of(wording.ablation, "dropout")
    assert wording.verdict(effect) == "not resolved with 3 seeds"
    assert f"3 seeds do not decide: about {effect.seeds_needed} would" in wording.finding(effect)
    more = design_of(Settings(seeds=effect.seeds_needed + 2, pairs=()))
    again = effect_of(ablation_of(more, values_of(more, effects)), "dropout")
    assert (effect.verdict, again.verdict) == (Verdict.NOT_RESOLVED, Verdict.SAFE)


def test_run_that_ended_without_a_value_makes_its_value_harmful() -> None:
    design = design_of()
    values = values_of(design, {})
    place = next(i for i, p in enumerate(design.points) if p.params["learning_rate"] == 1e-1)
    values[place, 1] = np.nan
    wording = Wording(ablation_of(design, values))
    effect = effect_of(wording.ablation, "learning_rate")
    assert effect.values[-1].kind is Class.FAILED
    assert wording.verdict(effect) == "harmful above 0.01"
    assert "1 of 3 runs with 0.1 ended without a value" in wording.finding(effect)


def test_unstable_value_is_harmful_and_does_not_hide_other_effects() -> None:
    design = design_of()
    values = values_of(design, {("optimizer", "sgd"): -0.02})
    place = next(i for i, p in enumerate(design.points) if p.params["learning_rate"] == 1e-1)
    values[place] = [0.99, 0.55, 0.2]
    wording = Wording(ablation_of(design, values))
    assert "0.1 is unreliable: 32" in wording.finding(effect_of(wording.ablation, "learning_rate"))
    assert effect_of(wording.ablation, "optimizer").verdict is Verdict.WORTH_TUNING


def test_minimized_metric_has_effects_above_zero_where_it_is_smaller() -> None:
    design = design_of()
    losses = 1.2 - values_of(design, {("optimizer", "sgd"): 0.05})
    wording = Wording(ablation_of(design, losses, maximize=False, metric="val_loss"))
    effect = effect_of(wording.ablation, "optimizer")
    assert effect.verdict is Verdict.WORTH_TUNING
    assert "sgd is better than adam by 0.0" in wording.finding(effect)
    assert wording.ablation.margin == wording.ablation.noise.deviation


def test_one_seed_gives_effects_without_a_verdict() -> None:
    design = design_of(Settings(seeds=1, pairs=()))
    wording = Wording(ablation_of(design, values_of(design, {("optimizer", "sgd"): -0.5})))
    effect = effect_of(wording.ablation, "optimizer")
    assert (effect.verdict, wording.ablation.noise) == (Verdict.NOT_RESOLVED, None)
    assert wording.finding(effect) == "1 seed cannot distinguish an effect from chance: 3 seeds would"
    assert "raise --seeds" in warnings_of(wording.ablation)[0]


def test_metric_that_never_changes_is_safe_and_reported() -> None:
    design = design_of()
    ablation = ablation_of(design, np.full((len(design.points), 3), 1.0))
    assert {one.verdict for one in ablation.parameters} == {Verdict.SAFE}
    assert "it has reached its limit" in warnings_of(ablation)[0]


def test_objective_that_ignores_its_seed_is_reported() -> None:
    design = design_of()
    values = np.repeat(values_of(design, {})[:, :1], 3, axis=1)
    ablation = ablation_of(design, values, same=True)
    assert ablation.measurements.ignores_seed
    assert "the objective does not use its seed" in warnings_of(ablation)[0]
    assert {one.verdict for one in ablation.parameters} == {Verdict.NOT_RESOLVED}


def test_value_whose_runs_are_those_of_the_base_changes_nothing() -> None:
    design = design_of(Settings(parameters=("optimizer", "dropout"), pairs=()))
    values = values_of(design, {})
    place = next(i for i, p in enumerate(design.points) if p.changed == ("optimizer",))
    values[place] = values[0]
    wording = Wording(ablation_of(design, values))
    assert "the same to the last digit" in wording.finding(effect_of(wording.ablation, "optimizer"))


def test_parameter_that_hardly_changes_a_run_is_judged_by_its_own_differences() -> None:
    design = design_of()
    values = values_of(design, {})
    alone = [place for place, point in enumerate(design.points) if point.changed == ("dropout",)]
    rng = np.random.default_rng(3)
    values[alone] = values[0] + rng.normal(0.0, NOISE / 10, (len(alone), 3))
    ablation = ablation_of(design, values)
    assert {*ablation.noise.calm} == {*alone}
    assert effect_of(ablation, "dropout").verdict is Verdict.SAFE
    # Equal by rounding: no more exact than the metric is.
    values[alone] = values[0]
    ablation = ablation_of(design, np.round(values, 3))
    assert ablation.noise.calm[alone[0]].deviation == pytest.approx(0.001 / 6**0.5)


def test_experiment_that_has_begun_uses_the_seeds_that_are_complete() -> None:
    design = design_of()
    values = values_of(design, {("optimizer", "sgd"): -0.0035})
    values[5:, 2] = np.nan
    ablation = ablation_of(design, values)
    ablation = Ablation(
        replace(ablation.measurements, failed=np.zeros_like(ablation.measurements.failed)), ablation.space
    )
    # Two seeds of all points but sgd, which is far from the base.
    assert ablation.noise.freedom == len(design.points) - 2
    assert effect_of(ablation, "optimizer").verdict is Verdict.WORTH_TUNING
    assert "have not finished" in warnings_of(ablation)[0]


def test_pair_is_tuned_together_where_a_changed_value_needs_another_partner() -> None:
    design = design_of(Settings(pairs=(("optimizer", "learning_rate"),)))
    found = [
        {("sgd", 1e-1): 0.0, ("sgd", 3.2e-2): -0.01}.get(
            (p.params["optimizer"], p.params["learning_rate"]), -0.03
        )
        if p.params["optimizer"] == "sgd"
        else 0.0
        for p in design.points
    ]
    wording = Wording(ablation_of(design, noisy(found, 3, np.random.default_rng(0), NOISE)))
    (pair,) = wording.ablation.interactions
    assert pair.verdict is Verdict.TUNE_TOGETHER
    assert "with optimizer sgd, learning_rate 0.1 is better than 0.01 by 3." in wording.pair(pair)
    alone = wording.finding(effect_of(wording.ablation, "optimizer"))
    assert alone.startswith("sgd is worse than adam by 2.9")
    assert alone.endswith("with learning_rate 0.1, sgd is not clearly worse")
    apart = [-0.03 if p.params["optimizer"] == "sgd" else 0.0 for p in design.points]
    wording = Wording(ablation_of(design, noisy(apart, 3, np.random.default_rng(0), NOISE)))
    assert wording.ablation.interactions[0].verdict is Verdict.TUNE_APART
