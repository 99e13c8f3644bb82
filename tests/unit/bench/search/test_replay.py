"""Replays of searches: simulated time, budgets, and the rules of the contestants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from bench.search.brackets import KerasTunerHyperband
from bench.search.contestants import CONTESTANTS
from bench.search.curves import CurveTable
from bench.search.landscape import Curve, Rows, Surrogate
from bench.search.promotion import Promotion
from bench.search.proposing import Trials
from bench.search.replay import Log, replay
from bench.search.scores import courses, epochs_to_match, mean_ranks
from bench.search.stopping import RayAsha, Stopping
from hpo.search.freeze_thaw import FreezeThaw, Level

EPOCHS = 9
SPACE = {
    "rate": FloatDistribution(1e-3, 1.0, log=True),
    "kind": CategoricalDistribution(["a", "b"]),
    "size": CategoricalDistribution([16, 64]),
}


def made_table(rows: int = 40) -> CurveTable:
    """Return a table whose best rate is 0.03 and whose kind b is worse."""
    rng = np.random.default_rng(0)
    configurations = np.stack(
        [10 ** rng.uniform(-3, 0, rows), rng.integers(0, 2, rows), rng.integers(0, 2, rows)], axis=1
    )
    distance = np.abs(np.log10(configurations[:, 0]) + 1.5) + 0.3 * configurations[:, 1]
    final = 0.9 * np.exp(-distance)
    values = final[:, None] * (1 - 0.5 ** np.arange(1, EPOCHS + 1)) + rng.normal(0, 0.001, (rows, EPOCHS))
    return CurveTable(
        name="made",
        objective="made",
        metric="val_accuracy",
        direction="maximize",
        space=SPACE,
        first={"rate": 0.5, "kind": "b", "size": 16},
        asked=rows + 10,
        limit=None,
        configurations=configurations,
        seeds=np.zeros(rows, dtype=np.int64),
        values=values,
        losses=1 - values,
        seconds=np.concatenate([np.full((rows, 1), 5.0), np.full((rows, EPOCHS - 1), 2.0)], axis=1),
    )


class Steady:
    """A landscape in which each trial is worth its number after every epoch."""

    start_seconds = 3.0

    def __init__(self, table: CurveTable) -> None:
        self.table = table
        self.made = 0

    def curve(self, params: Mapping[str, Any], rng: np.random.Generator) -> Curve:  # noqa: ARG002
        self.made += 1
        return Curve(params, np.full(EPOCHS, float(self.made)), 1 / self.made, 2.0)


class Worsening(Steady):
    """A landscape in which no later trial is as good as the first."""

    def curve(self, params: Mapping[str, Any], rng: np.random.Generator) -> Curve:
        super().curve(params, rng)
        value = 1 / self.made
        return Curve(params, np.full(EPOCHS, value), 1 - value, 2.0)


@pytest.fixture(scope="module")
def table() -> CurveTable:
    return made_table()


def all_trials(table: CurveTable, most: int | None = None) -> Stopping:
    return Stopping(trials_of(table), last=EPOCHS, most=most)


def trials_of(table: CurveTable) -> Trials:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return Trials(space=SPACE, direction="maximize", sampler=sampler, first=table.first, name="made")


def test_table_is_read_as_it_was_saved(table: CurveTable, tmp_path: Any) -> None:
    from bench.search.curves import load_table

    table.save(tmp_path)
    read = load_table("made", tmp_path)
    assert (read.space, read.first, read.epochs, read.partial) == (SPACE, table.first, EPOCHS, True)
    np.testing.assert_allclose(read.values, table.values, rtol=1e-6)
    np.testing.assert_allclose(read.configurations, table.configurations, rtol=1e-6)


def test_simulated_time_counts_starts_and_epochs_of_each_worker(table: CurveTable) -> None:
    log = replay(all_trials(table, most=4), Steady(table), workers=2, epochs=1000, seed=0)
    # Two workers, two trials each, of 3 seconds and 9 epochs of 2 seconds.
    assert log.seconds[-1] == 2 * (3 + EPOCHS * 2)
    assert len(log.seconds) == 4 * EPOCHS
    assert (log.started[-1], log.complete[-1]) == (4, 4)


def test_user_picks_complete_trial_over_better_value_of_shorter_one(table: CurveTable) -> None:
    log = replay(all_trials(table, most=2), Steady(table), workers=1, epochs=1000, seed=0)
    assert log.regrets[EPOCHS - 1 : -1] == [1.0] * EPOCHS
    assert log.regrets[-1] == 0.5


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_spends_its_budget_and_repeats(name: str, table: CurveTable) -> None:
    logs = [
        replay(CONTESTANTS[name](table, 3, None), Worsening(table), workers=4, epochs=90, seed=3)
        for _ in range(2)
    ]
    assert len(logs[0].seconds) >= 90
    assert logs[0] == logs[1]
    assert logs[0].complete[-1] > 0


def test_row_of_table_is_trained_once(table: CurveTable) -> None:
    rows = Rows(table)
    rng = np.random.default_rng(0)
    drawn = [rows.curve(table.first, rng) for _ in range(len(table.values))]
    assert len({curve.params["rate"] for curve in drawn}) == len(table.values)
    assert min(curve.regret for curve in drawn) == 0


def test_surrogate_ranks_configurations_as_the_table_does(table: CurveTable) -> None:
    surrogate = Surrogate(table)
    rng = np.random.default_rng(0)
    good, bad = ({"rate": rate, "kind": "a", "size": 64} for rate in (10**-1.5, 0.5))
    assert surrogate.curve(good, rng).regret < 0.05 < surrogate.curve(bad, rng).regret
    assert surrogate.curve(good, rng).values.shape == (EPOCHS,)
    assert surrogate.start_seconds == 3


def test_rounds_of_keras_tuner_have_its_sizes_and_epochs(table: CurveTable) -> None:
    contestant = KerasTunerHyperband(trials_of(table), last=EPOCHS, maximize=True)
    contestant.next()
    contestant._new_bracket()
    contestant._new_bracket()
    # From keras_tuner 1.4.8, with max_epochs=9 and factor=3.
    assert [(one.sizes, one.epochs) for one in contestant._brackets] == [
        ([9, 3, 1], [1, 3, 9]),
        ([5, 2], [3, 9]),
        ([3], [9]),
    ]


def test_ray_stops_trial_below_the_percentile_of_earlier_ones() -> None:
    pruner = RayAsha(last=EPOCHS)
    study: Any = SimpleNamespace(direction=optuna.study.StudyDirection.MAXIMIZE)

    def stops(number: int, epoch: int, value: float) -> bool:
        trial: Any = SimpleNamespace(number=number, last_step=epoch, intermediate_values={epoch: value})
        return pruner.prune(study, trial)

    assert [stops(number, 1, value) for number, value in enumerate([0.5, 0.4, 0.6, 0.55])] == [
        False,
        True,
        False,
        False,
    ]
    assert not stops(2, 2, 0.0), "epoch 2 is not a milestone"
    assert not stops(2, 4, 0.1), "the first one at a milestone goes on"


@pytest.mark.parametrize(("shown_from", "pruned"), [("0", [1, 3]), ("1/3", [3]), ("1", [])])
def test_paused_trial_is_shown_to_sampler_as_pruned_from_an_epoch_on(
    shown_from: str, pruned: list[int], table: CurveTable
) -> None:
    levels = (Level(Fraction(1, 9), 3), Level(Fraction(1, 3), 3))
    rule = FreezeThaw(epochs=EPOCHS, levels=levels, shown_from=Fraction(shown_from))
    trials = trials_of(table)
    search = Promotion(trials, rule, maximize=True)
    # Ever worse: of three, one goes on to epoch 3, and pauses there.
    for value in (0.3, 0.2, 0.1):
        number = search.next()
        assert number is not None
        search.start(number, search.propose())
        assert not search.report(number, 1, value)
    assert search.next() == 0
    search.report(0, 2, 0.3)
    before = search.shown(trials.study.get_trials())
    assert not search.report(0, 3, 0.3)
    shown = search.shown(trials.study.get_trials())
    assert before[0].state == TrialState.RUNNING
    found = {max(t.intermediate_values) for t in shown if t.state == TrialState.PRUNED}
    assert sorted(found) == pruned
    assert {t.value for t in shown if t.state == TrialState.PRUNED} <= {0.3, 0.2, 0.1}


def test_ratio_is_of_the_epochs_that_the_reference_trains_in_all() -> None:
    def searches(*regrets: float) -> Any:
        count = len(regrets)
        log = Log(list(range(1, count + 1)), list(regrets), [1] * count, [0] * count)
        return courses([log] * 3, 10)

    reference = searches(0.9, 0.5, 0.3, 0.3)
    assert epochs_to_match(searches(0.9, 0.2), reference).value == 0.5
    assert epochs_to_match(reference, reference).value == 0.75
    assert math.isinf(epochs_to_match(searches(0.9, 0.4), reference).value)


def test_equal_regrets_share_their_ranks() -> None:
    regrets = {"a": np.array([0.1, 0.2]), "b": np.array([0.1, 0.3]), "c": np.array([0.4, 0.1])}
    assert mean_ranks(regrets) == {"a": 1.75, "b": 2.25, "c": 2.0}
