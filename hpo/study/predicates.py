"""Shared SQL expressions: live attempts, alive agents, trials that may be best."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, and_, case, cast, extract, func

from hpo.outcomes import Outcome
from storage.attempts import NEXT
from storage.leases import LeaseTimes
from storage.tables import agents, attempts, trials

NOW = func.clock_timestamp()
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def seconds_of_attempt() -> ColumnElement[float]:
    """Duration of an attempt until it ended or its lease ends, without the time for which a pause held it.

    It is 0 for a prefetched attempt without a slot.
    """
    until = func.coalesce(attempts.c.ended_at, func.least(attempts.c.lease_until, NOW))
    trained_until = func.least(until, func.coalesce(attempts.c.held_at, until))
    trained = seconds(trained_until - attempts.c.started_at) - func.coalesce(attempts.c.held_seconds, 0.0)
    # Less than 0 if the database's clock was set back.
    return case((attempts.c.device == NEXT, 0.0), else_=func.greatest(trained, 0.0))


def attempt_in_slot() -> ColumnElement[bool]:
    """Whether an attempt is live and not only prefetched."""
    return and_(live_attempt(), attempts.c.device != NEXT)


def live_attempt() -> ColumnElement[bool]:
    """Whether an attempt is open and its lease has not expired."""
    return and_(attempts.c.ended_at.is_(None), attempts.c.lease_until > NOW)


def alive_agent() -> ColumnElement[bool]:
    """Whether an agent has not ended and its last heartbeat is younger than a lease, by the database's clock.

    A heartbeat further ahead than a lease is of a dead agent: the clock was set back.
    """
    return and_(agents.c.ended_at.is_(None), func.abs(seconds(NOW - agents.c.seen_at)) < lease_seconds())


def lease_seconds() -> ColumnElement[float]:
    """Duration of an agent's leases; the default for agents of versions that did not record it."""
    return func.coalesce(agents.c.lease_seconds, LeaseTimes.lease_seconds)


def seconds(duration: ColumnElement[Any]) -> ColumnElement[float]:
    """Convert an interval of the database to seconds."""
    return cast(extract("epoch", duration), Double)


def may_be_best() -> ColumnElement[bool]:
    """Whether a trial is complete with a finite value."""
    return and_(
        trials.c.outcome == Outcome.COMPLETE,
        trials.c.value.is_not(None),
        trials.c.value.not_in([cast(value, Double) for value in _NOT_FINITE]),
    )
