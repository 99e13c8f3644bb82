"""Rungs of freeze-thaw: the scores of trials at them, and the trials that are paused there.

A trial is *paused* while `paused_epoch` is set and it has no outcome: no agent resumes it until a claim thaws it, which
is decided under the lock of the study's row. `hpo.search.freeze_thaw` is the rule; here is what it reads and decides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.search.freeze_thaw import NAME, FreezeThaw, Paused, Rung, rule_for
from storage import attempts
from storage.repeats import IS_REPEAT


def rule_of(study: Row[Any]) -> FreezeThaw | None:
    """Return the rule of a study's row as `budget.lock_study` returns it; None for studies that pause no trials."""
    if study.pruner != NAME or study.epochs is None:
        return None
    return rule_for(int(study.epochs), json.loads(study.rungs or "[]"), modelled=study.curve_model == "true")


def judge(
    connection: Connection,
    attempt_id: int,
    rule: FreezeThaw,
    scores: Mapping[int, float],
    *,
    goes_on: bool = False,
) -> bool:
    """Store the scores of an attempt's trial by rung; return whether it is paused now; can be repeated.

    The attempt stays live until its trainer has ended. A rung that the trial has passed does not judge it again.
    `goes_on` is the decision of a model, where one decides.

    Raises:
        LeaseLostError: another agent has ended the attempt.
    """
    reservation_id = attempts.guard(connection, attempt_id)
    trial = connection.execute(
        text(
            f"SELECT study_id, paused_epoch, {IS_REPEAT} AS is_repeat FROM hpo.trials t WHERE reservation_id = :t"
        ),
        {"t": reservation_id},
    ).one()
    if trial.paused_epoch is not None:
        return True
    if trial.is_repeat:
        return False
    new = [
        rung
        for rung in sorted(scores)
        if _store(connection, trial.study_id, reservation_id, rung, scores[rung])
    ]
    if not new:
        return False
    if rule.modelled:
        score = scores[new[-1]]
        if not (goes_on and math.isfinite(score)):
            _pause(connection, reservation_id, new[-1], score if math.isfinite(score) else math.inf)
        return not (goes_on and math.isfinite(score))
    standing = connection.execute(
        text(
            "SELECT own.score, count(*) AS reached,"
            " count(*) FILTER (WHERE (r.score, r.reservation_id) < (own.score, own.reservation_id)) AS rank"
            " FROM hpo.rungs own JOIN hpo.rungs r ON r.study_id = own.study_id AND r.epoch = own.epoch"
            " WHERE own.reservation_id = :t AND own.epoch = :e GROUP BY own.reservation_id, own.epoch"
        ),
        {"t": reservation_id, "e": new[-1]},
    ).one()
    if rule.continues(new[-1], rank=standing.rank, reached=standing.reached, score=standing.score):
        return False
    _pause(connection, reservation_id, new[-1], standing.score)
    return True


def _pause(connection: Connection, reservation_id: int, epoch: int, score: float) -> None:
    connection.execute(
        text("UPDATE hpo.trials SET paused_epoch = :e, paused_score = :score WHERE reservation_id = :t"),
        {"t": reservation_id, "e": epoch, "score": score},
    )


def _store(connection: Connection, study_id: int, reservation_id: int, epoch: int, score: float) -> bool:
    """Store a score; return whether the trial had none at that rung."""
    values = {
        "t": reservation_id,
        "e": epoch,
        "s": study_id,
        "score": score if math.isfinite(score) else math.inf,
    }
    inserted = connection.execute(
        text(
            "INSERT INTO hpo.rungs (reservation_id, epoch, study_id, score) VALUES (:t, :e, :s, :score)"
            " ON CONFLICT (reservation_id, epoch) DO NOTHING"
        ),
        values,
    )
    if inserted.rowcount:
        return True
    # Trained again, for example with other code.
    connection.execute(
        text(
            "UPDATE hpo.rungs SET score = :score WHERE reservation_id = :t AND epoch = :e AND score <> :score"
        ),
        values,
    )
    return False


def read(connection: Connection, study_id: int, rule: FreezeThaw) -> list[Rung]:
    """Return the rungs of a study, each with its best paused trial that no agent holds."""
    rows = connection.execute(
        text(
            "WITH reached AS (SELECT epoch, count(*) AS number FROM hpo.rungs WHERE study_id = :s GROUP BY epoch)"
            " SELECT rung.epoch, coalesce(reached.number, 0) AS reached,"
            " best.reservation_id, best.paused_score,"
            " (SELECT count(*) FROM hpo.rungs r WHERE r.study_id = :s AND r.epoch = rung.epoch"
            "   AND (r.score, r.reservation_id) < (best.paused_score, best.reservation_id)) AS rank"
            " FROM unnest(CAST(:rungs AS integer[])) AS rung (epoch) LEFT JOIN reached USING (epoch) LEFT JOIN LATERAL"
            "  (SELECT t.reservation_id, t.paused_score FROM hpo.trials t"
            "   WHERE t.study_id = :s AND t.paused_epoch = rung.epoch AND t.outcome IS NULL"
            "   AND NOT EXISTS (SELECT 1 FROM hpo.attempts a"
            "    WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL)"
            "   ORDER BY t.paused_score, t.reservation_id LIMIT 1) AS best ON true"
        ),
        {"s": study_id, "rungs": list(rule.rungs)},
    )
    return [
        Rung(
            epoch=row.epoch,
            reached=row.reached,
            best_paused=None
            if row.reservation_id is None
            else Paused(trial=row.reservation_id, rank=row.rank, score=row.paused_score),
        )
        for row in rows
    ]


_PROMOTABLE = (
    "SELECT t.reservation_id, t.paused_score, last.host FROM hpo.trials t"
    " CROSS JOIN LATERAL (SELECT a.host FROM hpo.attempts a"
    "  WHERE a.reservation_id = t.reservation_id ORDER BY a.attempt_id DESC LIMIT 1) AS last"
    " WHERE t.study_id = :s AND t.paused_epoch = :e AND t.outcome IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM hpo.attempts a"
    "  WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL)"
    " AND (t.paused_score, t.reservation_id) <= (SELECT r.score, r.reservation_id FROM hpo.rungs r"
    "  WHERE r.study_id = :s AND r.epoch = :e ORDER BY r.score, r.reservation_id OFFSET :most - 1 LIMIT 1)"
)
"""The paused trials of a rung that are among its best `:most` trials, each with the host of its last attempt."""

_OTHER_HOSTS = (
    "SELECT DISTINCT host FROM hpo.agents WHERE study_id = :s AND host <> :host AND ended_at IS NULL"
    " AND seen_at > clock_timestamp() - coalesce(lease_seconds, 120) * interval '1 second'"
)


def other_hosts(connection: Connection, study_id: int, host: str) -> list[str]:
    """Return the other hosts that have agents of the study."""
    return list(connection.execute(text(_OTHER_HOSTS), {"s": study_id, "host": host}).scalars())


def on_host(
    connection: Connection, study_id: int, rule: FreezeThaw, rung: Rung, host: str, *, anyway: bool
) -> int | None:
    """Return the paused trial of a rung that goes on, on this host: checkpoints of others may be out of its reach.

    Trials whose agents have left are as good as its own. Where all were paused on hosts that still have agents, these
    take them: it is None then, or the best of them `anyway`.
    """
    assert rung.best_paused is not None
    others = other_hosts(connection, study_id, host)
    if not others:
        return rung.best_paused.trial
    found = connection.execute(
        text(
            f"SELECT reservation_id FROM ({_PROMOTABLE}) AS promotable WHERE host <> ALL(:others)"
            " ORDER BY host <> :host, paused_score, reservation_id LIMIT 1"
        ),
        {
            "s": study_id,
            "e": rung.epoch,
            "most": rule.quota(rung.epoch, rung.reached),
            "host": host,
            "others": others,
        },
    ).scalar_one_or_none()
    return rung.best_paused.trial if found is None and anyway else found
