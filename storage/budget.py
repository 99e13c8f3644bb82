"""A study's budget: trials are reserved before anything is sampled, and decided exactly once.

One row of `hpo.trials` is one reservation, made by `storage.claiming.claims`. It is *open* until an attempt decides its
outcome; which attempt may do so is settled by `storage.leases`. A budget of N means N finished trials (complete,
pruned, diverged, out of memory or timed out: all that a sampler learns from), however many agents come and go.
Every function takes an open transaction, and every write can be repeated when the answer to a commit was lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.outcomes import COUNTED, CUT_SHORT, FAILURES, Outcome
from storage.attempts import NEXT
from storage.connection.prepared import prepared


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Number of trials of a study, by state."""

    budget: int = 0
    complete: int = 0
    pruned: int = 0
    diverged: int = 0
    out_of_memory: int = 0
    timed_out: int = 0
    infeasible: int = 0
    rejected: int = 0
    """Configurations that violate a constraint and were not trained; they do not count."""
    failed: int = 0
    running: int = 0
    prepared: int = 0
    """Prefetched by agents whose slots are busy."""
    waiting: int = 0
    """Reserved, but held by no agent now, and not paused."""
    paused: int = 0
    """Paused by freeze-thaw: they go on later, or count as pruned at the end."""
    failing: int = 0
    """Failed since the study was last set to run; `max_failed` limits these."""

    @property
    def finished(self) -> int:
        """Trials that count towards the budget."""
        return sum(self.of(outcome) for outcome in COUNTED)

    @property
    def held(self) -> int:
        """Trials that agents hold a lease on."""
        return self.running + self.prepared

    @property
    def judged(self) -> int:
        """Trials that have finished or are paused: most of these never go on."""
        return min(self.finished + self.paused, self.budget)

    @property
    def begun(self) -> int:
        """Trials that count towards the budget, or will unless they fail."""
        return self.finished + self.held + self.waiting + self.paused

    @property
    def left(self) -> int:
        """Trials still to finish."""
        return max(0, self.budget - self.finished)

    def of(self, outcome: Outcome) -> int:
        """Return the number of trials with an outcome that counts."""
        number: int = getattr(self, outcome.name.lower())
        return number

    def plus(self, outcome: Outcome, number: int = 1) -> Counts:
        """Return the counts with `number` more trials of an outcome that counts."""
        return replace(self, **{outcome.name.lower(): self.of(outcome) + number})

    @property
    def cut_short(self) -> str:
        """Trials that count and are not complete, by outcome: `4 pruned, 1 timed out`."""
        shown = (outcome for outcome in CUT_SHORT if self.of(outcome) or outcome is Outcome.PRUNED)
        return ", ".join(f"{self.of(outcome)} {outcome}" for outcome in shown)


@dataclass(frozen=True)
class Failure:
    """A trial that failed."""

    outcome: Outcome
    error: str
    traceback: str


def fields(outcomes: Mapping[Outcome, int]) -> dict[str, int]:
    """Return the fields of `Counts` that count trials by outcome."""
    return {outcome.name.lower(): outcomes.get(outcome, 0) for outcome in COUNTED}


def count(connection: Connection, study_id: int) -> Counts:
    """Count a study's trials, in one pass over them; all zero for a deleted study."""
    rows = connection.execute(
        prepared(
            "SELECT s.budget, t.outcome, t.number, t.paused, t.since_failures, live.*"
            " FROM hpo.studies s LEFT JOIN LATERAL (SELECT outcome, count(*) AS number,"
            " count(paused_epoch) AS paused, count(*) FILTER (WHERE decided_at > s.failures_since) AS since_failures"
            " FROM hpo.trials WHERE study_id = s.study_id GROUP BY outcome) AS t ON true"
            # Few, whatever the number of trials.
            " CROSS JOIN LATERAL (SELECT"
            " count(*) FILTER (WHERE a.device <> :next) AS running,"
            " count(*) FILTER (WHERE a.device = :next) AS prepared,"
            " count(o.paused_epoch) AS held_paused"
            " FROM hpo.attempts a JOIN hpo.trials o USING (reservation_id)"
            " WHERE a.ended_at IS NULL AND o.study_id = s.study_id AND o.outcome IS NULL) AS live"
            " WHERE s.study_id = :s"
        ),
        {"s": study_id, "next": NEXT},
    ).all()
    if not rows:
        return Counts()
    of = {row.outcome: row for row in rows if row.number is not None}
    live, undecided = rows[0], of.get(None)
    paused = 0 if undecided is None else undecided.paused - live.held_paused
    idle = 0 if undecided is None else undecided.number - live.running - live.prepared
    failed = [of[outcome] for outcome in FAILURES if outcome in of]
    return Counts(
        budget=live.budget,
        failed=sum(row.number for row in failed),
        failing=sum(row.since_failures for row in failed),
        running=live.running,
        prepared=live.prepared,
        waiting=idle - paused,
        paused=paused,
        rejected=of[Outcome.REJECTED].number if Outcome.REJECTED in of else 0,
        **fields({Outcome(outcome): row.number for outcome, row in of.items() if outcome in COUNTED}),
    )


def has_room(connection: Connection, study_id: int) -> bool:
    """Whether another trial may certainly begin, from a few index lookups; where not, only `count` knows.

    Ordinals have no gaps, so the next one is the number of trials; a gap would make it larger, never smaller.
    """
    found: bool | None = connection.execute(
        text(
            "SELECT s.budget > (SELECT coalesce(max(ordinal) + 1, 0) FROM hpo.trials WHERE study_id = :s)"
            " - (SELECT count(*) FROM hpo.trials WHERE study_id = :s AND outcome = ANY(:uncounted))"
            " FROM hpo.studies s WHERE s.study_id = :s"
        ),
        {"s": study_id, "uncounted": [*FAILURES, Outcome.REJECTED]},
    ).scalar_one_or_none()
    return bool(found)


def decided_at(study_id: str) -> str:
    """Return the SQL of the time of a decision; `study_id` is the SQL of the study's id.

    Never before an earlier decision or reset of failures, although the clock may have been set back since.
    """
    return (
        "(SELECT greatest(clock_timestamp(), s.failures_since + interval '1 microsecond',"
        "   (SELECT max(decided_at) FROM hpo.trials WHERE study_id = s.study_id))"
        f"   FROM hpo.studies s WHERE s.study_id = {study_id})"
    )


DECIDE = (
    "UPDATE hpo.trials t SET outcome = :o, value = :v, error = nullif(:e, ''), traceback = nullif(:tb, ''),"
    # A trial that is paused and ends by itself, or by hand, does not go on when the study is extended.
    f" paused_epoch = NULL, paused_score = NULL, decided_at = {decided_at('t.study_id')}"
)
"""Beginning of a statement that decides trials `t`, with the values of `decision`."""


def decision(
    outcome: Outcome, value: float | None, error: str | None, traceback: str | None
) -> dict[str, Any]:
    """Return the values of a decision; one that is not finite is not stored."""
    finite = value if value is not None and math.isfinite(value) else None
    return {"o": outcome, "v": finite, "e": error, "tb": traceback}


def decide(
    connection: Connection,
    reservation_id: int,
    outcome: Outcome,
    value: float | None,
    error: str | None,
    traceback: str | None,
) -> bool:
    """Decide a trial; False if it was decided before, which changes nothing."""
    result = connection.execute(
        text(f"{DECIDE} WHERE t.reservation_id = :t AND t.outcome IS NULL"),
        {"t": reservation_id, **decision(outcome, value, error, traceback)},
    )
    return bool(result.rowcount)


def set_budget(connection: Connection, study_id: int, trials: int) -> None:
    """Set the number of finished trials, at least those that were begun: they will finish."""
    lock_study(connection, study_id)
    begun = count(connection, study_id).begun
    connection.execute(
        text("UPDATE hpo.studies SET budget = :n WHERE study_id = :s"),
        {"s": study_id, "n": max(trials, begun)},
    )


BEGINNING = (
    "spec->>'configurations' AS configurations, spec->>'repeats' AS repeats,"
    " spec->>'design' IS NOT NULL AS designed"
)
"""Columns of a study that decide whether another trial begins: `storage.claiming.claims.begins_within` reads them."""


def lock_study(connection: Connection, study_id: int) -> Row[Any] | None:
    """Prevent reservations and claims until the transaction ends.

    Returns the study's desired_state, and of its spec the seed, the pruner, the epochs, the rungs, whether a model
    of curves decides at them, the number of configurations and the repeats, as text, and whether it has a design.
    """
    return connection.execute(
        text(
            "SELECT desired_state, spec->>'seed' AS seed, spec->>'pruner' AS pruner, spec->>'epochs' AS epochs,"
            f" spec->>'rungs' AS rungs, spec->>'curve_model' AS curve_model, {BEGINNING}"
            " FROM hpo.studies WHERE study_id = :s FOR NO KEY UPDATE"
        ),
        {"s": study_id},
    ).one_or_none()


def ends(connection: Connection, study_id: int) -> list[tuple[Outcome, int, str]]:
    """Return each outcome that counts with its number of trials and its latest error, the most frequent first."""
    rows = connection.execute(
        text(
            "SELECT outcome, count(*) AS number,"
            " coalesce((array_agg(error ORDER BY decided_at DESC, reservation_id DESC))[1], '') AS error"
            " FROM hpo.trials WHERE study_id = :s AND outcome = ANY(:counted)"
            " GROUP BY outcome ORDER BY number DESC, outcome"
        ),
        {"s": study_id, "counted": list(COUNTED)},
    )
    return [(Outcome(row.outcome), row.number, row.error) for row in rows]


def failures(connection: Connection, study_id: int, most: int) -> list[Failure]:
    """Return up to `most` trials that failed since the study was last set to run, the latest first."""
    rows = connection.execute(
        text(
            "SELECT outcome, coalesce(error, '') AS error, coalesce(traceback, '') AS traceback"
            " FROM hpo.trials JOIN hpo.studies USING (study_id)"
            " WHERE study_id = :s AND outcome = ANY(:failures) AND decided_at > failures_since"
            " ORDER BY decided_at DESC, reservation_id DESC LIMIT :most"
        ),
        {"s": study_id, "failures": list(FAILURES), "most": most},
    )
    return [Failure(Outcome(row.outcome), row.error, row.traceback) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Rejections:
    """Configurations that were rejected in a row."""

    number: int
    reason: str
    """Why the last one was rejected; empty if none was."""
    alike: bool
    """Whether all have the same reason."""


def rejections(connection: Connection, study_id: int) -> Rejections:
    """Return the configurations that were rejected since a trial ended in another way.

    Earlier ones than the study's last change to `run` are left out.
    """
    row = connection.execute(
        text(
            "SELECT count(*) AS number, coalesce((array_agg(t.error ORDER BY t.decided_at DESC))[1], '') AS reason,"
            " count(DISTINCT t.error) = 1 AS alike"
            " FROM hpo.trials t JOIN hpo.studies s USING (study_id) WHERE study_id = :s AND outcome = :rejected"
            " AND decided_at > greatest(s.failures_since, (SELECT max(decided_at) FROM hpo.trials"
            "   WHERE study_id = :s AND outcome <> :rejected))"
        ),
        {"s": study_id, "rejected": Outcome.REJECTED},
    ).one()
    return Rejections(**row._mapping)
