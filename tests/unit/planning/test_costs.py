"""The cost of a search that follows from a measurement, and the epochs that each pruner may leave."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from hpo.planning.costs import affordable, estimated, work_of
from hpo.planning.memory import Memory
from hpo.planning.probe_run import Measurement
from hpo.search.freeze_thaw import Ladder
from hpo.search.pruners import PRUNERS, build_pruner, epochs_left, freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.study.estimates import Estimate
from tests.specs import spec


def measurement(**values: Any) -> Measurement:
    known: dict[str, Any] = {
        "params": {},
        "start_seconds": 5.0,
        "epoch_seconds": 10.0,
        "measured_epochs": 6,
        "trial_seconds": None,
        "ended_after": None,
        "memory": Memory(each=100, shared=1000),
        "checkpoint_bytes": 7,
    }
    return Measurement(**known | values)


def estimate(
    study: StudySpec, trials: int = 20, slots: int = 4, finished: int = 0, trained: int = 0, **values: Any
) -> Estimate:
    work = work_of(study, trials, finished, trained, slots)
    return estimated(work, measurement(**values), load_seconds=30.0, free_bytes=1350)


def test_search_without_a_pruner_takes_all_epochs() -> None:
    found = estimate(spec(epochs=9))
    assert (found.trial_seconds, found.least_epochs, found.most_epochs) == (95.0, 180, 180)
    # Five rounds of four trials.
    assert found.least_seconds == found.most_seconds == 5 * 95
    assert found.slots_that_fit == 3


def test_rounds_of_slots_are_whole() -> None:
    assert estimate(spec(epochs=9), trials=21).most_seconds == 6 * 95
    assert estimate(spec(epochs=9), trials=3).slots == 3


def test_pruner_leaves_fewer_epochs_and_less_time_but_not_less_than_a_trial() -> None:
    found = estimate(spec(epochs=9, pruner="median"))
    # Five trials complete first, and the others train the warm-up of three epochs.
    assert (found.least_epochs, found.most_epochs) == (5 * 9 + 15 * 3, 180)
    assert found.least_seconds == (20 * 5 + 90 * 10) / 4
    assert estimate(spec(epochs=9, pruner="median"), trials=6, slots=6).least_seconds == 95


def test_limit_of_a_trial_and_of_all_epochs_bound_the_cost() -> None:
    timed = estimate(spec(epochs=9, trial_timeout_seconds=35.0))
    assert (timed.trial_seconds, timed.most_epochs, timed.most_seconds) == (35.0, 60, 5 * 35)
    limited = estimate(spec(epochs=9, max_epochs=100), trained=20)
    assert (limited.least_epochs, limited.most_epochs) == (80, 80)
    assert limited.most_seconds == pytest.approx(80 * (10 + 5 / 9) / 4)


def test_finished_trials_and_configurations_of_a_grid_are_not_planned_again() -> None:
    assert estimate(spec(epochs=9), finished=8).trials == 12
    grid = spec({"x": CategoricalDistribution([1, 2, 3])}, epochs=9, sampler="grid")
    assert estimate(grid).trials == 3
    assert estimate(grid, finished=3).trials == 0
    assert estimate(grid, finished=3).most_seconds == 0.0


def test_repeats_of_the_best_trial_are_not_pruned() -> None:
    found = estimate(spec(epochs=9, pruner="median", repeats=4))
    assert (found.least_epochs, found.most_epochs) == (5 * 9 + 11 * 3 + 4 * 9, 180)
    finite = spec({"x": CategoricalDistribution([1, 2, 3])}, epochs=9, repeats=4)
    assert estimate(finite).trials == 7


def test_objective_that_decides_on_its_epochs_has_a_cost_by_time_alone() -> None:
    found = estimate(spec(epochs=None), trial_seconds=60.0)
    assert (found.least_epochs, found.most_epochs) == (None, None)
    assert found.most_seconds == 5 * 60


def test_time_buys_between_the_rounds_of_whole_trials_and_the_share_of_pruned_ones() -> None:
    found = estimate(spec(epochs=9, pruner="median"))
    assert affordable(found, 200.0) == (8, 16)
    assert affordable(found, 10.0) == (0, 0)
    assert affordable(found, 10_000.0) == (20, 20)


def test_estimate_is_read_as_it_was_stored() -> None:
    found = estimate(spec(epochs=9))
    assert Estimate.from_json(found.to_json()) == found


def simulated(study: StudySpec, trials: int) -> int:
    """Return the epochs of trials whose values are random and do not change, one after the other."""
    assert study.epochs is not None
    rng = random.Random(3)
    values = [rng.random() for _ in range(trials)]
    if (rule := freeze_thaw_of(study)) is not None:
        ladder, trained = Ladder(rule), trials * rule.rungs[0]
        for number, value in enumerate(values):
            passes = ladder.report(number, rule.rungs[0], value)
            thawed = 0 if ladder.thaw() is None else 1
            trained += (passes + thawed) * (study.epochs - rule.rungs[0])
        return trained
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The name decides on the brackets of Hyperband.
    search, trained = optuna.create_study(study_name="s", pruner=build_pruner(study)), 0
    for value in values:
        trial = search.ask()
        for epoch in range(1, study.epochs + 1):
            trained += 1
            trial.report(value, epoch)
            if epoch < study.epochs and trial.should_prune():
                search.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            search.tell(trial, value)
    return trained


@pytest.mark.parametrize("epochs", [1, 2, 9, 15])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruner_leaves_epochs_within_the_planned_range(pruner: str, epochs: int) -> None:
    study, trials = spec(epochs=epochs, pruner=pruner), 60
    least, most = epochs_left(study, trials, epochs), trials * epochs
    if pruner == "freeze-thaw" and epochs == 1:
        assert least == most
        return
    # Shares of few trials are rounded down, so that a few less may go on.
    assert 0.85 * least <= simulated(study, trials) <= most
    # A range that begins too low promises nothing.
    assert least >= most / 8
