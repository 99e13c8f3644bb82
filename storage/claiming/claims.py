"""Claims: an agent leases a waiting or paused trial of a study, else reserves one, before anything is sampled.

A claim locks the study's row, so that claims of all agents together stay within the budget, and can be repeated
when the answer to its commit was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Row, text

from hpo.errors import StudyConflictError
from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import FreezeThaw
from storage import attempts, budget, configurations, goals, repeats
from storage.attempts import NEXT
from storage.budget import Counts
from storage.configurations import Contains
from storage.freeze_thaw import pauses, rungs, thawing
from storage.freeze_thaw.advice import Advice
from storage.repeats import Turn

TAKEN = "trained by an agent that was idle"
"""Reason that a prefetched attempt was released."""


class NoWork(Enum):
    """Reason that a claim gets no trial."""

    DONE = "the budget is spent"
    ELSEWHERE = "what is left of the budget is being trained by others"
    PAUSED = "the study is paused"
    STOPPED = "the study is stopped"
    EPOCHS = "all trials together have trained --max-epochs"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A reservation and the attempt that may train it."""

    reservation_id: int
    attempt_id: int
    ordinal: int
    """Index of the reservation in its study, from 0; the first ones try the known good configurations."""
    seed: int
    trial_id: int | None = None
    """Optuna's id, if an earlier attempt created the trial."""
    number: int | None = None
    params: Mapping[str, Any] | None = None
    fresh: bool
    """Whether it was reserved by this claim: Optuna has no trial for it yet."""
    untrained: bool = False
    """Whether it was taken from the queue of another agent, and no trainer has started it."""


def claim(
    connection: Connection,
    study_id: int,
    agent_id: int,
    host: str,
    slot: int,
    device: str,
    lease_seconds: float,
    contains: Contains | None = None,
    epochs: int | None = None,
    advice: Advice | None = None,
) -> Claim | NoWork:
    """Lease a waiting reservation, else a paused trial that goes on, else a new reservation.

    `contains` is that of a finite space that has changed since the study began; `advice` is that of a model of the
    trials' curves, where one decides.
    Where none is left, a slot takes over the last prefetched trial of another agent, which would start it later.
    Where nothing is left to train, trials that are still paused are decided as pruned.

    Raises:
        StudyConflictError: trials have another number of epochs than the agent's, which are `epochs`.
    """
    study = budget.lock_study(connection, study_id)
    if study is None or study.desired_state == "stop":
        return NoWork.STOPPED
    if study.desired_state == "pause":
        return NoWork.PAUSED
    if epochs is not None and study.epochs != str(epochs):
        raise StudyConflictError(
            f"trials of the study have {study.epochs} epochs now, not {epochs}, because --epochs was raised while this"
            " agent was away: run the same command again"
        )
    # A claim whose answer was lost: its lease is being renewed, so it must not be made twice.
    held = _held(connection, agent_id, slot)
    if held is not None:
        return _read(connection, held)
    chosen = _chosen(connection, study_id, study, agent_id, host, device, contains, advice)
    if isinstance(chosen, NoWork):
        return chosen
    attempt_id: int = connection.execute(
        text(
            "INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, lease_until) VALUES"
            " (:t, :a, :s, :d, :h, clock_timestamp() + :lease * interval '1 second') RETURNING attempt_id"
        ),
        {
            "t": chosen.reservation_id,
            "a": agent_id,
            "s": slot,
            "d": device,
            "h": host,
            "lease": lease_seconds,
        },
    ).scalar_one()
    return _read(connection, attempt_id, fresh=chosen.fresh, untrained=chosen.untrained)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The reservation of a claim, with the facts that `Claim` explains."""

    reservation_id: int
    fresh: bool = False
    untrained: bool = False


def _chosen(
    connection: Connection,
    study_id: int,
    study: Row[Any],
    agent_id: int,
    host: str,
    device: str,
    contains: Contains | None,
    advice: Advice | None,
) -> _Chosen | NoWork:
    """Return the reservation that a free slot trains next, or the reason why there is none."""
    reached = goals.end_if_reached(connection, study_id, contains)
    # Most claims need no count, which takes longer the more trials there are.
    counts = None if budget.has_room(connection, study_id) else budget.count(connection, study_id)
    if counts is not None and counts.left == 0:
        return NoWork.DONE
    if reached == "epochs":
        return NoWork.EPOCHS
    rule = rungs.rule_of(study)
    reservation_id = _waiting(connection, study_id)
    if reservation_id is not None:
        return _Chosen(reservation_id=reservation_id)
    begins = (counts is None or counts.begun < counts.budget) and begins_within(
        connection, study_id, study, contains
    )
    # In a finite space of which all trials have begun, the best paused ones go on as they would at the budget's end.
    if rule is not None and reached in ("", "space"):
        if rule.modelled:
            reservation_id = thawing.by_advice(connection, study_id, host, advice, begins=begins)
        else:
            reservation_id = thawing.by_rank(connection, study_id, counts, rule, host)
        if reservation_id is not None:
            return _Chosen(reservation_id=reservation_id)
    if begins:
        return _Chosen(reservation_id=_reserve(connection, study_id, study), fresh=True)
    counts = counts or budget.count(connection, study_id)
    if rule is not None and counts.held == 0:
        goes_on = reached in ("", "space")
        return _last(connection, study_id, counts, rule, advice) if goes_on else _end(connection, study_id)
    reservation_id = _take_prefetched(connection, study_id, agent_id) if device != NEXT else None
    if reservation_id is None:
        return NoWork.ELSEWHERE
    return _Chosen(reservation_id=reservation_id, untrained=not _was_trained(connection, reservation_id))


def _last(
    connection: Connection, study_id: int, counts: Counts, rule: FreezeThaw, advice: Advice | None
) -> _Chosen | NoWork:
    """Return the trial that goes on where none is preferred and all that is left is paused, or end the study."""
    if advice is not None and advice.paused != counts.paused:
        # Trials have paused since: the model has not judged them.
        return NoWork.ELSEWHERE
    complete = repeats.searched_to_the_end(connection, study_id, counts)
    thawed = rule.finalist(rungs.read(connection, study_id, rule), complete)
    if thawed is None:
        return _end(connection, study_id)
    pauses.thaw(connection, thawed)
    return _Chosen(reservation_id=thawed)


def _end(connection: Connection, study_id: int) -> NoWork:
    """End a study of which only paused trials are left."""
    pauses.end(connection, study_id)
    return NoWork.DONE


def begins_within(connection: Connection, study_id: int, study: Row[Any], contains: Contains | None) -> bool:
    """Whether another trial may begin if the budget has room for it; `study` has the columns `budget.BEGINNING`."""
    if study.designed:
        return configurations.next_seed(connection, study_id) is not None
    if study.repeats is not None:
        turn = repeats.turn(connection, study_id, contains)
        if turn is not Turn.SEARCH:
            return turn is Turn.REPEAT
    size = None if study.configurations is None else int(study.configurations)
    return size is None or not configurations.all_given(connection, study_id, size, contains)


def _held(connection: Connection, agent_id: int, slot: int) -> int | None:
    """Return the live attempt of a slot."""
    return connection.execute(
        text("SELECT attempt_id FROM hpo.attempts WHERE agent_id = :a AND slot = :slot AND ended_at IS NULL"),
        {"a": agent_id, "slot": slot},
    ).scalar_one_or_none()


def _waiting(connection: Connection, study_id: int) -> int | None:
    """Return the earliest open reservation that no agent holds, and that is not paused."""
    return connection.execute(
        text(
            "SELECT reservation_id FROM hpo.trials t WHERE study_id = :s AND outcome IS NULL"
            " AND paused_epoch IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM hpo.attempts a WHERE a.reservation_id = t.reservation_id AND a.ended_at IS NULL)"
            " ORDER BY ordinal LIMIT 1"
        ),
        {"s": study_id},
    ).scalar_one_or_none()


def _reserve(connection: Connection, study_id: int, study: Row[Any]) -> int:
    """Insert a reservation; the lock on the study's row makes its ordinal unique, and its seed that of its run."""
    of_run = configurations.next_seed(connection, study_id) if study.designed else None
    reservation_id: int = connection.execute(
        text(
            "INSERT INTO hpo.trials (study_id, ordinal, seed)"
            " SELECT :s, n, coalesce(CAST(:run AS bigint), (:seed + n) % 2147483648) FROM"
            " (SELECT coalesce(max(ordinal) + 1, 0) AS n FROM hpo.trials WHERE study_id = :s) AS next"
            " RETURNING reservation_id"
        ),
        {"s": study_id, "seed": int(study.seed or 0), "run": of_run},
    ).scalar_one()
    return reservation_id


def _take_prefetched(connection: Connection, study_id: int, agent_id: int) -> int | None:
    """Release the prefetched trial that another agent would start last, and return its reservation.

    It must have been sampled, because an agent that is sampling does not notice.
    """
    # An attempt that its agent is placing now is locked: skip it rather than wait.
    row = connection.execute(
        text(
            "SELECT a.attempt_id, a.reservation_id FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id)"
            " WHERE t.study_id = :s AND a.ended_at IS NULL AND a.device = :next AND a.agent_id <> :a"
            " AND t.params IS NOT NULL ORDER BY a.attempt_id DESC LIMIT 1 FOR UPDATE OF a SKIP LOCKED"
        ),
        {"s": study_id, "next": NEXT, "a": agent_id},
    ).one_or_none()
    if row is None:
        return None
    attempts.end(connection, [row.attempt_id], Outcome.RELEASED, TAKEN)
    reservation_id: int = row.reservation_id
    return reservation_id


def _was_trained(connection: Connection, reservation_id: int) -> bool:
    """Whether an earlier attempt may have trained: it had a slot.

    That its trainer has begun is written only afterwards, and not at all by an agent that dies while the database
    is away.
    """
    found: bool = connection.execute(
        text(
            "SELECT EXISTS (SELECT 1 FROM hpo.attempts"
            " WHERE reservation_id = :t AND (pid IS NOT NULL OR device <> :next))"
        ),
        {"t": reservation_id, "next": NEXT},
    ).scalar_one()
    return found


def _read(connection: Connection, attempt_id: int, *, fresh: bool = False, untrained: bool = False) -> Claim:
    row = connection.execute(
        text(
            "SELECT reservation_id, attempt_id, ordinal, seed, trial_id, number, params"
            " FROM hpo.attempts JOIN hpo.trials USING (reservation_id) WHERE attempt_id = :a"
        ),
        {"a": attempt_id},
    ).one()
    return Claim(**row._mapping, fresh=fresh, untrained=untrained)
