"""Goals of a study: a value of its metric, or trials without a new best one, after which no further trial starts.

A claim checks them under the lock that makes reservations exact, so that all agents together stop at the same trial.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from hpo.outcomes import COUNTED, Outcome
from storage import budget, configurations


@dataclass(frozen=True, kw_only=True)
class Goals:
    """The goals of a study and its progress towards them."""

    target: float | None
    """Value that a complete trial must reach."""
    patience: int | None
    """Finished trials without a new best one after which the search ends."""
    best_number: int | None
    """Number of the first trial with the best value."""
    best_value: float | None
    trials_since_best: int
    """Trials that have finished since, without those that freeze-thaw left paused."""
    reached: str
    """The goal that is reached, as `target`, `patience` or `grid`; else empty."""
    configurations: int | None = None
    """Configurations of the space, if `--sampler grid` trains each of them once."""
    begun: int = 0
    """Those of them whose trials have finished or are being trained."""


def read(connection: Connection, study_id: int) -> Goals | None:
    """Return the goals of a study; None if it has none."""
    spec = connection.execute(
        text(
            "SELECT spec->>'target' AS target, spec->>'patience' AS patience,"
            " spec->>'configurations' AS configurations,"
            " spec->>'direction' = 'maximize' AS maximize FROM hpo.studies WHERE study_id = :s"
        ),
        {"s": study_id},
    ).one_or_none()
    if spec is None or (spec.target is None and spec.patience is None and spec.configurations is None):
        return None
    target = None if spec.target is None else float(spec.target)
    patience = None if spec.patience is None else int(spec.patience)
    size = None if spec.configurations is None else int(spec.configurations)
    begun = 0 if size is None else configurations.begun(connection, study_id)[0]
    ended = "grid" if size is not None and begun >= size else ""
    # The first to finish of several with the same value: an equal one is not an improvement.
    best = connection.execute(
        text(
            "SELECT number, value, reservation_id, decided_at FROM hpo.trials"
            " WHERE study_id = :s AND outcome = :complete AND value IS NOT NULL"
            f" ORDER BY value {'DESC' if spec.maximize else 'ASC'}, decided_at, reservation_id LIMIT 1"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE},
    ).one_or_none()
    if best is None:
        return Goals(
            target=target,
            patience=patience,
            best_number=None,
            best_value=None,
            trials_since_best=0,
            reached=ended,
            configurations=size,
            begun=begun,
        )
    since: int = connection.execute(
        text(
            # Trials that freeze-thaw left paused end together, at the end of the study.
            "SELECT count(*) FROM hpo.trials WHERE study_id = :s AND outcome = ANY(:counted)"
            " AND paused_epoch IS NULL AND (decided_at, reservation_id) > (:at, :t)"
        ),
        {"s": study_id, "counted": list(COUNTED), "at": best.decided_at, "t": best.reservation_id},
    ).scalar_one()
    reached = ended
    if target is not None and (best.value >= target if spec.maximize else best.value <= target):
        reached = "target"
    elif patience is not None and since >= patience:
        reached = "patience"
    return Goals(
        target=target,
        patience=patience,
        best_number=best.number,
        best_value=best.value,
        trials_since_best=since,
        reached=reached,
        configurations=size,
        begun=begun,
    )


def all_given(connection: Connection, study_id: int, size: int) -> bool:
    """Whether the configurations of a finite space suffice only for the trials that were begun."""
    given, pending = configurations.begun(connection, study_id)
    return given + pending >= size


def end_if_reached(connection: Connection, study_id: int) -> bool:
    """Lower the budget of a study that has reached a goal to the trials that were begun; its row must be locked.

    Returns whether it has reached one.
    """
    goals = read(connection, study_id)
    if goals is None or not goals.reached:
        return False
    budget.set_budget(connection, study_id, 0)
    return True
