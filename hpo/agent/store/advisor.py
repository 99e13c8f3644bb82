"""An agent's model of a study's learning curves: what a free slot trains next, and which trials pause."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from hpo.agent.store.study_session import StudySession
from hpo.search.curve_model.curves import Curve
from hpo.search.curve_model.scheduler import Scheduler
from hpo.search.freeze_thaw import FreezeThaw
from hpo.search.spec import StudySpec
from objectives.base import Params
from storage.freeze_thaw import curves
from storage.freeze_thaw.advice import Advice
from storage.freeze_thaw.curves import ScoredTrial, StudyCurves

log = logging.getLogger(__name__)

T = TypeVar("T")


class Advisor:
    """Reads the curves and asks the model; where the model fails, the study goes on without it."""

    def __init__(self, session: StudySession, study_id: int, spec: StudySpec, rule: FreezeThaw) -> None:
        self._session = session
        self._study_id = study_id
        self._rule = rule
        self._contains = spec.contains if spec.space_changed else None
        self._scheduler = Scheduler(
            space=spec.space,
            epochs=rule.epochs,
            seed=spec.seed,
            startup=spec.startup,
            finalists=rule.finalists,
        )
        self._warned = False

    def advice(self) -> Advice | None:
        """Return the order in which a free slot takes trials."""
        study = self._read()
        ranked = self._modelled(
            lambda: self._scheduler.ranking(
                [_curve(one) for one in study.trials], study.reserved, begins=study.begins
            )
        )
        return None if ranked is None else Advice(ranked=tuple(ranked), paused=study.paused)

    def continues(self, attempt_id: int, scores: Mapping[int, float]) -> bool:
        """Return whether a running trial, which has these scores by rung, goes on."""
        study = self._read(attempt_id, scores)
        own = next((one for one in study.trials if one.attempt_id == attempt_id), None)
        if own is None:
            return False
        known = [_curve(one) for one in study.trials]
        return bool(
            self._modelled(
                lambda: self._scheduler.continues(known, _curve(own), study.reserved, begins=study.begins)
            )
        )

    def propose(self, seed: int) -> Params | None:
        """Return a new configuration; None if the model fails."""
        study = self._read()
        known = [_curve(one) for one in study.trials]
        return self._modelled(
            lambda: self._scheduler.propose(known, study.reserved - 1, np.random.default_rng(seed))
        )

    def _read(self, attempt_id: int | None = None, scores: Mapping[int, float] | None = None) -> StudyCurves:
        return self._session.write(
            curves.read,
            self._study_id,
            self._rule,
            self._contains,
            attempt_id=attempt_id,
            scores=scores or {},
        )

    def _modelled(self, decide: Callable[[], T]) -> T | None:
        try:
            # Matrices of a few hundred rows: more threads only disturb the trainers.
            with np.errstate(over="ignore", invalid="ignore"), threadpool_limits(limits=1, user_api="blas"):
                return decide()
        except Exception as exc:  # noqa: BLE001 - a study ends by no failure of its model
            # Values may exceed the model's arithmetic; it reads no database.
            if not self._warned:
                log.warning(
                    f"the model of curves failed ({type(exc).__name__}: {exc}): trials go on without it"
                )
            self._warned = True
            return None


def _curve(trial: ScoredTrial) -> Curve:
    return Curve(
        trial=trial.reservation_id,
        ordinal=trial.ordinal,
        params=trial.params,
        scores={epoch: score if math.isfinite(score) else math.inf for epoch, score in trial.scores.items()},
        state=trial.state,
    )
