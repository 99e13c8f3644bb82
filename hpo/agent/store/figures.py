"""The figures of trials that a study asks for, as attributes of their trials in Optuna."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from hpo.agent.store.errors import TrialFinishedError
from hpo.agent.store.study_session import StudySession
from hpo.search.optuna_study import CONSTRAINT
from hpo.search.spec import StudySpec
from objectives.runs.figures import EPOCH_SECONDS
from storage import figures
from storage.figures import FIGURE
from storage.optuna import live_trials

MOST_VIOLATION = 1e9
"""Largest size of a violation that the sampler gets: it adds them up."""


class TrialFigures:
    """The figures of the live trials of one agent."""

    def __init__(self, session: StudySession, spec: StudySpec) -> None:
        self._session = session
        self._asked = spec.figures
        self._bounds = spec.bounds

    def keep(self, attempt_id: int, measured: Mapping[str, float], *, once: bool) -> None:
        """Keep figures, and by how much they violate the constraints; with `once`, the first ones stay.

        Raises:
            LeaseLostError, TrialFinishedError: the trial is another agent's, or closed.
        """
        for name, value in measured.items():
            # JSON has neither NaN nor infinities.
            if math.isfinite(value):
                self._set(attempt_id, "user", f"{FIGURE}{name}", value, once)
            for bound in self._bounds:
                if bound.figure == name:
                    violation = min(max(bound.violation(value), -MOST_VIOLATION), MOST_VIOLATION)
                    self._set(attempt_id, "system", f"{CONSTRAINT}{bound}", violation, once)

    def of_epochs(self, attempt_id: int, epoch: int, known: Collection[str]) -> dict[str, float]:
        """Return the figures among the metrics of an epoch, and the time of epochs, without the `known` ones."""
        metrics, seconds = self._session.statement(figures.of_epochs, attempt_id, epoch)
        found = {**metrics, EPOCH_SECONDS: seconds}
        return {name: found[name] for name in self._asked if name in found and name not in known}

    def _set(self, attempt_id: int, kind: figures.Kind, key: str, value: float, once: bool) -> None:
        if not self._session.statement(live_trials.set_attribute, attempt_id, kind, key, value, once=once):
            raise TrialFinishedError
