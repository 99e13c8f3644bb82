"""Scores of a study's trials at the rungs of freeze-thaw, for a model of their curves.

What is read is bounded, however many trials there are: the latest ones, an even sample of all, and of each rung the
best and the best that are paused there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import FreezeThaw
from storage import budget
from storage.claiming import claims
from storage.configurations import Contains

LATEST = 120
SAMPLE = 40
BEST = 20
"""Trials that are read at least: the latest, an even sample, and the best of each rung, of all and of the paused."""


@dataclass(frozen=True, kw_only=True)
class ScoredTrial:
    """A trial with its scores, smaller for better ones."""

    reservation_id: int
    attempt_id: int | None
    """Its live attempt."""
    ordinal: int
    params: Mapping[str, Any]
    scores: Mapping[int, float]
    """Score by epoch: at rungs, and at the end of a complete trial; infinity: not finite, or the configuration
    cannot work."""
    state: Literal["running", "paused", "ended"]
    """Paused: no agent holds it. A trial that waits for an agent counts as running."""


@dataclass(frozen=True, kw_only=True)
class StudyCurves:
    """The curves of a study at one time."""

    trials: list[ScoredTrial]
    reserved: int
    """Trials that have begun, whatever became of them."""
    begins: bool
    """Whether the budget has room for a new configuration."""
    paused: int | None
    """Paused trials, where it may not."""


_PICKED = (
    "WITH last AS (SELECT max(ordinal) AS ordinal FROM hpo.trials WHERE study_id = :s),"
    " picked AS ("
    "  SELECT reservation_id FROM hpo.trials WHERE study_id = :s"
    "   AND ordinal > (SELECT ordinal FROM last) - :latest"
    "  UNION SELECT reservation_id FROM hpo.trials WHERE study_id = :s AND ordinal IN"
    "   (SELECT CAST((SELECT ordinal FROM last) AS bigint) * n / :sample FROM generate_series(0, :sample) AS n)"
    "  UNION SELECT found.reservation_id FROM unnest(CAST(:rungs AS integer[])) AS rung (epoch)"
    "   CROSS JOIN LATERAL (SELECT r.reservation_id FROM hpo.rungs r"
    "    WHERE r.study_id = :s AND r.epoch = rung.epoch ORDER BY r.score, r.reservation_id LIMIT :best) AS found"
    "  UNION SELECT found.reservation_id FROM unnest(CAST(:rungs AS integer[])) AS rung (epoch)"
    "   CROSS JOIN LATERAL (SELECT t.reservation_id FROM hpo.trials t WHERE t.study_id = :s"
    "    AND t.paused_epoch = rung.epoch AND t.outcome IS NULL"
    "    ORDER BY t.paused_score, t.reservation_id LIMIT :best) AS found"
    "  UNION SELECT reservation_id FROM hpo.attempts WHERE attempt_id = :own)"
)

_READ = (
    f"{_PICKED} SELECT t.reservation_id, a.attempt_id, t.ordinal, t.params, t.outcome, t.value, t.epochs,"
    " CASE WHEN t.outcome IS NOT NULL THEN 'ended'"
    "  WHEN t.paused_epoch IS NOT NULL AND a.attempt_id IS NULL THEN 'paused' ELSE 'running' END AS state,"
    " scored.epochs AS rungs, scored.scores"
    " FROM picked JOIN hpo.trials t USING (reservation_id)"
    " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.ended_at IS NULL"
    " CROSS JOIN LATERAL (SELECT coalesce(array_agg(r.epoch), '{}') AS epochs,"
    "  coalesce(array_agg(r.score), '{}') AS scores FROM hpo.rungs r"
    "  WHERE r.reservation_id = t.reservation_id) AS scored"
    " WHERE t.params IS NOT NULL ORDER BY t.ordinal"
)

_STUDY = (
    f"SELECT {budget.BEGINNING},"
    " CASE WHEN spec->>'direction' = 'maximize' THEN -1 ELSE 1 END AS sign,"
    " (SELECT coalesce(max(ordinal) + 1, 0) FROM hpo.trials WHERE study_id = :s) AS reserved"
    " FROM hpo.studies WHERE study_id = :s"
)


def read(
    connection: Connection,
    study_id: int,
    rule: FreezeThaw,
    contains: Contains | None = None,
    *,
    attempt_id: int | None = None,
    scores: Mapping[int, float] = MappingProxyType({}),
) -> StudyCurves:
    """Return the curves of a study, without trials that have no score yet.

    The trial of the attempt, if one is given, has these `scores` too, which are not stored yet; `contains` is as in
    `claims.claim`.
    """
    study = connection.execute(text(_STUDY), {"s": study_id}).one()
    # As in claims, trials are counted only where none may begin.
    begins = claims.begins_within(connection, study_id, study, contains)
    room = begins and budget.has_room(connection, study_id)
    counts = None if room else budget.count(connection, study_id)
    rows = connection.execute(
        text(_READ),
        {
            "s": study_id,
            "rungs": list(rule.rungs),
            "latest": LATEST,
            "sample": SAMPLE,
            "best": BEST,
            "own": attempt_id,
        },
    )
    found = [
        _scored(row, rule.epochs, study.sign, scores if row.attempt_id == attempt_id else {}) for row in rows
    ]
    return StudyCurves(
        trials=[one for one in found if one.scores],
        reserved=study.reserved,
        begins=begins and (counts is None or counts.begun < counts.budget),
        paused=None if counts is None else counts.paused,
    )


def _scored(row: Any, epochs: int, sign: int, new: Mapping[int, float]) -> ScoredTrial:
    scores = dict(zip(row.rungs, row.scores, strict=True)) | dict(new)
    if row.outcome == Outcome.COMPLETE and row.value is not None:
        scores[epochs] = sign * row.value
    elif row.outcome is not None and Outcome(row.outcome).is_infeasible:
        scores[max(1, row.epochs)] = math.inf
    return ScoredTrial(
        reservation_id=row.reservation_id,
        attempt_id=row.attempt_id,
        ordinal=row.ordinal,
        params=row.params,
        scores=scores,
        state=row.state,
    )
