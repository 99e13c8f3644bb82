"""Decisions after an epoch whether a trial goes on: of the pruner, of freeze-thaw and of the budget of epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar

from optuna.exceptions import UpdateFinishedTrialError

from hpo.agent.store.errors import is_of_trial
from hpo.agent.store.study_session import StudySession
from hpo.search.optuna_study import Search
from hpo.search.pruners import freeze_thaw_of
from hpo.search.spec import StudySpec
from hpo.trainer.ends.failures import one_line
from storage import goals
from storage.freeze_thaw import rungs

if TYPE_CHECKING:
    from hpo.agent.store.advisor import Advisor

log = logging.getLogger(__name__)

T = TypeVar("T")


class Judgement:
    """Decides which trials of one study go on."""

    def __init__(
        self,
        session: StudySession,
        study_id: int,
        spec: StudySpec,
        search: Search,
        advisor: Advisor | None,
        closed: Callable[[int], NoReturn],
    ) -> None:
        """Call `closed` for an attempt whose trial is closed in Optuna; it raises the error."""
        self._session = session
        self._study_id = study_id
        self._spec = spec
        self._search = search
        self._advisor = advisor
        self._closed = closed
        self._freeze_thaw = freeze_thaw_of(spec)

    def should_prune(self, attempt_id: int, trial_id: int) -> bool:
        """Return whether the study's pruner ends the trial now.

        Raises:
            LeaseLostError: the trial was settled meanwhile, so the pruner cannot write to it.
        """
        return bool(self._judge(attempt_id, trial_id, self._search.should_prune))

    def epochs_are_spent(self) -> bool:
        """Return whether all trials together have trained `--max-epochs`."""
        most = self._spec.max_epochs
        return most is not None and self._session.statement(goals.trained_epochs, self._study_id) >= most

    def pauses(self, attempt_id: int, scores: Mapping[int, float]) -> bool:
        """Keep a trial's scores by rung of freeze-thaw; return whether it is paused, so that its trainer must end."""
        rule = self._freeze_thaw
        if rule is None:
            return False
        goes_on = self._advisor is not None and self._advisor.continues(attempt_id, scores)
        return self._session.write(rungs.judge, attempt_id, rule, scores, goes_on=goes_on)

    def replay(self, attempt_id: int, trial_id: int) -> None:
        """Let the pruner judge the recorded epochs of a resumed trial again, where its notes on them are gone.

        Raises:
            LeaseLostError: as in `should_prune`.
        """
        self._judge(attempt_id, trial_id, self._search.replay)

    def _judge(self, attempt_id: int, trial_id: int, judge: Callable[[int], T]) -> T | None:
        """Return the pruner's judgement; None if the pruner failed."""
        try:
            return self._session.call(lambda: judge(trial_id))
        except UpdateFinishedTrialError:
            self._closed(attempt_id)
        except Exception as exc:
            if not is_of_trial(exc):
                raise
            # Values of other trials may exceed the pruner's arithmetic; this one continues.
            log.warning(
                f"the pruner failed ({one_line(exc)}): the trial continues", extra={"trial_id": trial_id}
            )
            return None
