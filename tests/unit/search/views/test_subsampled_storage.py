"""The view of a sampler on a study with very many trials."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text

from hpo.search.views import subsampled_storage
from hpo.search.views.subsampled_storage import BEST, MOST, SubsampledStorage

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def add(study: optuna.Study, count: int) -> None:
    """Add trials that are better the nearer they are to 0.3; one in three was pruned, one in seven failed."""
    for number in range(len(study.trials), len(study.trials) + count):
        x = (number * 0.618034) % 1.0
        value = abs(x - 0.3)
        state = (
            TrialState.FAIL
            if number % 7 == 6
            else TrialState.PRUNED
            if number % 3 == 2
            else TrialState.COMPLETE
        )
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                params={"x": x},
                distributions=SPACE,
                intermediate_values={1: value},
            )
        )


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(storage=InMemoryStorage())


def seen(study: optuna.Study, storage: SubsampledStorage | None = None) -> list[FrozenTrial]:
    storage = storage or SubsampledStorage(study._storage, study.direction)
    return storage.get_all_trials(study._study_id, deepcopy=False)


def numbers(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


def test_ordinary_study_is_shown_completely(study: optuna.Study) -> None:
    add(study, MOST)
    assert numbers(seen(study)) == numbers(study.trials)


def test_large_study_shows_best_open_and_even_sample(study: optuna.Study) -> None:
    add(study, 3 * MOST)
    running = study.ask(SPACE).number
    found = seen(study)
    assert MOST / 2 <= len(found) <= MOST + BEST + 1
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: trial.value or 0.0)[:BEST]
    assert {running, *numbers(best)} < set(numbers(found))
    assert numbers(found) == sorted(numbers(found))
    # The sample has the same shares as the whole: pruned, failed, and above a value.
    for share in (
        lambda t: t.state == TrialState.PRUNED,
        lambda t: t.state == TrialState.FAIL,
        lambda t: t.params.get("x", 0.0) > 0.5,
    ):
        whole = sum(map(share, study.trials)) / len(study.trials)
        assert sum(map(share, found)) / len(found) == pytest.approx(whole, abs=0.05)


def test_all_agents_see_the_same_trials(study: optuna.Study) -> None:
    early = SubsampledStorage(study._storage, study.direction)
    for _ in range(4):
        add(study, 600)
        seen(study, early)
    assert numbers(seen(study, early)) == numbers(seen(study))


def test_best_pruned_trials_are_shown_if_few_are_complete(study: optuna.Study) -> None:
    for number in range(2 * MOST):
        # The larger the number, the further it came; all the best ones have odd numbers.
        step = 1 + number // 500
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": 0.5},
                distributions=SPACE,
                intermediate_values={step: float(number % 2 == 0)},
            )
        )
    found = set(numbers(seen(study)))
    odd_and_furthest = [number for number in range(1500, 2 * MOST) if number % 2][:BEST]
    assert set(odd_and_furthest) <= found


def test_maximizing_keeps_the_largest(study: optuna.Study) -> None:
    add(study, 2 * MOST)
    found = seen(study, SubsampledStorage(study._storage, StudyDirection.MAXIMIZE))
    largest = max(trial.value for trial in study.trials if trial.state == TrialState.COMPLETE)
    assert max(trial.value for trial in found if trial.state == TrialState.COMPLETE) == largest


def test_states_filter_shown_trials(study: optuna.Study) -> None:
    add(study, 2 * MOST)
    storage = SubsampledStorage(study._storage, study.direction)
    complete = storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.COMPLETE,))
    assert numbers(complete) == [t.number for t in seen(study) if t.state == TrialState.COMPLETE]


def test_tpe_proposes_good_values_from_a_subsample(study: optuna.Study) -> None:
    add(study, 4 * MOST)
    thinned = optuna.load_study(
        study_name=study.study_name,
        storage=SubsampledStorage(study._storage, study.direction),
        sampler=optuna.samplers.TPESampler(seed=1),
    )
    proposed = [thinned.ask(SPACE).params["x"] for _ in range(10)]
    assert all(abs(x - 0.3) < 0.05 for x in proposed)


@pytest.mark.parametrize("most", [8, 100])
def test_view_that_reads_changes_alone_shows_what_a_new_one_does(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Through Optuna's cache, while trials end and fail, and the best one is opened again."""
    monkeypatch.setattr(subsampled_storage, "MOST", most)
    monkeypatch.setattr(subsampled_storage, "BEST", 3)
    storage = get_storage("sqlite://")
    study = optuna.create_study(storage=storage)
    early = SubsampledStorage(storage, study.direction)

    def check() -> None:
        new = seen(study)
        assert [(trial.number, trial.state) for trial in seen(study, early)] == [
            (trial.number, trial.state) for trial in new
        ]
        assert len(new) < len(study.trials) or most == 100

    for count in (20, 1, 3):
        add(study, count)
        running = [study.ask(SPACE) for _ in range(3)]
        check()
        study.tell(running[0], 0.0)
        study.tell(running[1], state=TrialState.FAIL)
        check()
    best = study.best_trial._trial_id
    with storage._backend.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE trials SET state = 'RUNNING' WHERE trial_id = :t"), {"t": best})
    # As an agent does that takes a trial over.
    storage._studies[study._study_id].unfinished_trial_ids.add(best)  # type: ignore[attr-defined]
    check()
    study.tell(best - 1, 1.0)
    check()


def test_trials_after_a_deleted_one_are_shown() -> None:
    storage = get_storage("sqlite://")
    study = optuna.create_study(storage=storage)
    add(study, 6)
    with storage._backend.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("DELETE FROM trials WHERE number = 2"))
    storage._studies.clear()  # type: ignore[attr-defined]
    view = SubsampledStorage(storage, study.direction)
    assert numbers(seen(study, view)) == [0, 1, 3, 4, 5]
    storage.create_new_trial(
        study._study_id,
        create_trial(state=TrialState.COMPLETE, value=0.0, params={"x": 0.3}, distributions=SPACE),
    )
    assert numbers(seen(study, view)) == numbers(study.trials)
