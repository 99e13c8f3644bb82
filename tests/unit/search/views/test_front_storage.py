"""The view of a sampler on a study with two objectives, and the front of its trials."""

from __future__ import annotations

import math
import random
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from hpo.search.optuna_study import Search
from hpo.search.pareto import front
from hpo.search.views import front_storage
from hpo.search.views.front_storage import FrontStorage
from storage.figures import FIGURE
from tests.searches import sampled
from tests.specs import SPACE, spec


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30])
def test_front_holds_one_of_each_point_that_no_other_dominates(count: int) -> None:
    drawn = random.Random(count)
    points = [(drawn.randint(0, 6), drawn.randint(0, 6)) for _ in range(count)]
    found = [points[index] for index in front(points)]
    best = {
        one
        for one in points
        if not any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in points)
    }
    assert found == sorted(best)


def add(study: optuna.Study, x: float, state: TrialState = TrialState.COMPLETE, **attributes: Any) -> None:
    study.add_trial(
        create_trial(
            state=state,
            value=x if state == TrialState.COMPLETE else None,
            params={"x": x},
            distributions=SPACE,
            **attributes,
        )
    )


def with_figure(parameters: float) -> dict[str, Any]:
    return {"user_attrs": {f"{FIGURE}parameters": parameters}}


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="s", direction="minimize")


def test_sampler_sees_two_values_and_no_trial_without_them(study: optuna.Study) -> None:
    add(study, 0.1, **with_figure(math.e))
    add(study, 0.2, user_attrs={f"{FIGURE}parameters": "foreign"})
    add(study, 0.3, TrialState.PRUNED, **with_figure(1.0))
    add(study, 0.4, TrialState.PRUNED, system_attrs={"constraints:parameters<=5": 2.0})
    add(study, 0.5, TrialState.RUNNING)
    view = FrontStorage(study._storage, "parameters")
    assert view.get_study_directions(study._study_id) == [StudyDirection.MINIMIZE] * 2
    shown = view.get_all_trials(study._study_id, deepcopy=False)
    assert [trial.number for trial in shown] == [0, 3, 4]
    assert shown[0].values == [0.1, pytest.approx(1.0)]
    assert study.trials[0].values == [0.1], "the study itself has one objective"
    complete = view.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.COMPLETE,))
    assert [trial.number for trial in complete] == [0]


def test_large_study_shows_the_whole_front(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_storage, "MOST", 8)
    for number in range(40):
        x = number / 40
        # Odd numbers are on the front.
        add(study, x, **with_figure(100.0 - number if number % 2 else 1000.0))
    shown = FrontStorage(study._storage, "parameters").get_all_trials(study._study_id, deepcopy=False)
    numbers = {trial.number for trial in shown}
    assert {*range(1, 40, 2)} <= numbers
    assert len(numbers) < 30


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_sampler_proposes_for_two_objectives(sampler: str) -> None:
    space = {"x": FloatDistribution(0.0, 1.0)}
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for number in range(30):
        x = number / 30
        study.add_trial(
            create_trial(
                value=1 - abs(x - 0.9),
                params={"x": x},
                distributions=space,
                user_attrs={f"{FIGURE}parameters": 10 ** (5 * x)},
            )
        )
    found = spec(space, sampler=sampler, direction="maximize", also_minimize="parameters", startup=5)
    search = Search(study._study_id, found, storage)
    trial_id = storage.create_new_trial(study._study_id)
    assert 0.0 <= sampled(search, trial_id)["x"] <= 1.0
