"""The view of a sampler on a study of freeze-thaw, in which paused trials count as pruned."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.search.freeze_thaw import FreezeThaw
from hpo.search.views import paused_trials
from hpo.search.views.paused_trials import PausedTrials
from tests.specs import THIRDS

RULE = FreezeThaw(epochs=9, levels=THIRDS)
SPACE = {"x": FloatDistribution(0.0, 1.0)}
OPEN = create_trial(
    state=TrialState.RUNNING, params={"x": 0.5}, distributions=SPACE, intermediate_values={1: 0.5}
)


class Reads(RDBStorage):
    """Counts the trials that are read from the database."""

    read = 0

    def _get_trials(self, *arguments: object, **options: object) -> list[FrozenTrial]:
        found = super()._get_trials(*arguments, **options)  # type: ignore[arg-type]
        self.read += len(found)
        return found


def test_paused_trials_are_pruned_until_they_are_thawed() -> None:
    study = optuna.create_study(storage=InMemoryStorage())
    first, second = (study.ask(SPACE) for _ in range(2))
    first.report(0.5, 1)
    paused = {first._trial_id: 1}
    view = PausedTrials(study._storage, study._storage, study.direction, RULE, lambda: paused)

    def states() -> list[TrialState]:
        return [trial.state for trial in view.get_all_trials(study._study_id, deepcopy=False)]

    assert states() == [TrialState.PRUNED, TrialState.RUNNING]
    pruned = view.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.PRUNED,))
    assert [trial.intermediate_values for trial in pruned] == [{1: 0.5}]
    assert study.trials[0].state == TrialState.RUNNING, "only the view shows it as pruned"
    paused.clear()
    assert states() == [TrialState.RUNNING] * 2
    study.tell(second.number, 0.25)
    first.report(0.4, 3)
    paused[first._trial_id] = 3
    assert states() == [TrialState.PRUNED, TrialState.COMPLETE]
    assert view.get_all_trials(study._study_id, deepcopy=False)[0].intermediate_values == {1: 0.5, 3: 0.4}


def test_trials_that_are_paused_too_early_to_judge_run_for_the_sampler() -> None:
    study = optuna.create_study(storage=InMemoryStorage())
    paused = {study.ask(SPACE)._trial_id: epoch for epoch in (1, 3)}
    rule = FreezeThaw(epochs=9, shown_from=Fraction(1, 3))
    view = PausedTrials(study._storage, study._storage, study.direction, rule, lambda: paused)
    states = [trial.state for trial in view.get_all_trials(study._study_id, deepcopy=False)]
    assert states == [TrialState.RUNNING, TrialState.PRUNED]


def test_paused_trials_are_read_from_the_database_once(tmp_path: Path) -> None:
    backend = Reads(f"sqlite:///{tmp_path}/s.db")
    storage = _CachedStorage(backend)
    study = optuna.create_study(storage=storage)
    for _ in range(20):
        study.add_trial(OPEN)
    paused = {trial._trial_id: 1 for trial in study.trials[1:]}
    view = PausedTrials(storage, storage, study.direction, RULE, lambda: paused)
    view.get_all_trials(study._study_id, deepcopy=False)
    # A finished trial, from whose id on Optuna reads only open ones.
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5))
    view.get_all_trials(study._study_id, deepcopy=False)

    def reads() -> int:
        before = backend.read
        view.get_all_trials(study._study_id, deepcopy=False)
        return backend.read - before

    assert reads() == 1
    thawed = study.trials[5]._trial_id
    del paused[thawed]
    assert reads() == 2
    # Another agent trains it, and it is complete then.
    other = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path}/s.db")
    other.tell(5, 0.25)
    found = view.get_all_trials(study._study_id, deepcopy=False)
    assert (found[5].state, found[5].value) == (TrialState.COMPLETE, 0.25)
    assert reads() == 1


def test_very_many_paused_trials_are_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused_trials, "MOST", 40)
    study = optuna.create_study(storage=InMemoryStorage())
    for number in range(100):
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={"x": 0.5},
                distributions=SPACE,
                intermediate_values={1: (number * 37 % 100) / 100},
            )
        )
    paused = {trial._trial_id: 1 for trial in study.trials[:-1]}
    view = PausedTrials(study._storage, study._storage, study.direction, RULE, lambda: paused)
    found = view.get_all_trials(study._study_id, deepcopy=False)
    assert found[-1].state == TrialState.RUNNING
    values = [trial.intermediate_values[1] for trial in found]
    assert sorted(values)[:25] == [value / 100 for value in range(25)]
    assert 40 <= len(found) <= 60
