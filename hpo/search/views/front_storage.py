"""A view of a study for its sampler, in which a figure of each trial is a second value, to be minimized.

In Optuna the study has one objective, so that values, the best trial and the budget mean the same as in every study.
Samplers that see two values search for the front: TPE as MOTPE (Ozaki et al., 2022), which ranks trials by domination.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpo.search.pareto import front
from hpo.search.views.subsampled_storage import MOST
from objectives.runs.figures import MEASURED
from storage.figures import FIGURE, number
from storage.optuna.proxy import ForwardingStorage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


class FrontStorage(ForwardingStorage):
    """A storage of one study that shows complete trials with two values, and of very many only a part."""

    def __init__(self, storage: BaseStorage, figure: str) -> None:
        super().__init__(storage)
        self._attribute = f"{FIGURE}{figure}"
        # Models differ by factors: on a linear scale the small ones would count as equal.
        self._scale = _logarithm if figure in MEASURED else float
        self._shown: dict[int, FrozenTrial | None] = {}
        """Finished trials as they are shown, by number; None: not at all."""

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [*self._storage.get_study_directions(study_id), StudyDirection.MINIMIZE]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy:
            # Samplers never ask for a copy.
            return self._storage.get_all_trials(study_id, deepcopy, states)
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        shown = [found for trial in trials if (found := self._as_shown(trial)) is not None]
        if len(shown) > MOST:
            shown = self._subsampled(study_id, shown)
        return shown if states is None else [trial for trial in shown if trial.state in states]

    def _as_shown(self, trial: FrozenTrial) -> FrozenTrial | None:
        if not trial.state.is_finished():
            return trial
        if trial.number not in self._shown:
            self._shown[trial.number] = self._with_figure(trial)
        return self._shown[trial.number]

    def _with_figure(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Return a finished trial with both values; None where one is missing and no constraint is violated."""
        if any(value > 0 for value in trial.constraints.values()):
            return trial
        figure = number(trial.user_attrs.get(self._attribute))
        if trial.state != TrialState.COMPLETE or figure is None:
            return None
        shown = copy.copy(trial)
        shown.values = [trial.value, self._scale(figure)]
        return shown

    def _subsampled(self, study_id: int, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        every = 2 ** math.ceil(math.log2(len(trials) / MOST))
        maximize = self._storage.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        sign = -1.0 if maximize else 1.0
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        points = [(sign * trial.values[0], trial.values[1]) for trial in complete]
        best = {complete[index].number for index in front(points)}
        return [
            trial
            for trial in trials
            if trial.number % every == 0 or trial.number in best or not trial.state.is_finished()
        ]


def _logarithm(figure: float) -> float:
    return math.log(max(figure, 1e-9))
