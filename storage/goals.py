"""Goals of a study, after which no further trial starts: a value of its metric, trials without a new best one, epochs.

A claim checks them under the lock that makes reservations exact, so that all agents together stop at the same trial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, text

from hpo.outcomes import COUNTED, Outcome
from hpo.search.plateau import Plateau
from storage import budget, configurations, repeats
from storage.configurations import Contains
from storage.repeats import Noise, Turn


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
    """Trials that have finished since, without repeats and without those that freeze-thaw left paused."""
    reached: str
    """The goal that is reached, as `target`, `patience`, `flat`, `space` or `epochs`; else empty."""
    configurations: int | None = None
    """Configurations of the space, if it is finite: each of them is trained once."""
    begun: int = 0
    """Those of them whose trials have finished or are being trained."""
    max_epochs: int | None = None
    """Epochs of all trials together after which the search stops."""
    epochs: int = 0
    """Epochs that all trials together have completed, if they are limited."""
    plateau: Plateau | None = None
    """The recent gain of the search, which ends once it is flat; None if it does not."""
    noise: Noise | None = None
    """The noise with which the gain is compared, if it is known."""


def read(
    connection: Connection, study_id: int, contains: Contains | None = None, *, exact: bool = True
) -> Goals | None:
    """Return the goals of a study; None if it has none.

    `contains` is that of the study's space, if it has changed since the study began. Unless `exact`, all trials count
    as different configurations while they are fewer than these.
    """
    spec = connection.execute(
        text(
            "SELECT spec->>'target' AS target, spec->>'patience' AS patience,"
            " spec->>'configurations' AS configurations, spec->>'max_epochs' AS max_epochs,"
            " spec->>'direction' = 'maximize' AS maximize,"
            " nullif(spec->>'stop_when_flat', 'false') AS stop_when_flat FROM hpo.studies WHERE study_id = :s"
        ),
        {"s": study_id},
    ).one_or_none()
    if spec is None or not any(
        (spec.target, spec.patience, spec.configurations, spec.max_epochs, spec.stop_when_flat)
    ):
        return None
    size = None if spec.configurations is None else int(spec.configurations)
    goals = Goals(
        target=None if spec.target is None else float(spec.target),
        patience=None if spec.patience is None else int(spec.patience),
        best_number=None,
        best_value=None,
        trials_since_best=0,
        reached="",
        configurations=size,
        begun=0 if size is None else _begun(connection, study_id, size, contains, exact=exact),
        max_epochs=None if spec.max_epochs is None else int(spec.max_epochs),
        epochs=0 if spec.max_epochs is None else trained_epochs(connection, study_id),
    )
    goals = _with_best(connection, study_id, goals, maximize=bool(spec.maximize))
    if spec.stop_when_flat:
        goals = _with_plateau(connection, study_id, goals, maximize=bool(spec.maximize))
    reached = _reached(goals, maximize=bool(spec.maximize))
    if reached == "space" and _goes_on(connection, study_id, contains):
        reached = ""
    return replace(goals, reached=reached)


def _goes_on(connection: Connection, study_id: int, contains: Contains | None) -> bool:
    """Whether trials follow although all configurations of a finite space were begun."""
    if configurations.asked_for(connection, study_id):
        return True
    return repeats.turn(connection, study_id, contains) is not Turn.SEARCH


def _begun(
    connection: Connection, study_id: int, size: int, contains: Contains | None, *, exact: bool
) -> int:
    reserved = configurations.reserved(connection, study_id)
    # To compare all configurations takes a while in a large study.
    return configurations.begun(connection, study_id, contains)[0] if exact or reserved >= size else reserved


def _with_best(connection: Connection, study_id: int, goals: Goals, *, maximize: bool) -> Goals:
    # The first to finish of several with the same value: an equal one is not an improvement.
    best = connection.execute(
        text(
            "SELECT number, value, reservation_id, decided_at FROM hpo.trials"
            " WHERE study_id = :s AND outcome = :complete AND value IS NOT NULL"
            f" ORDER BY value {'DESC' if maximize else 'ASC'}, decided_at, reservation_id LIMIT 1"
        ),
        {"s": study_id, "complete": Outcome.COMPLETE},
    ).one_or_none()
    if best is None:
        return goals
    since: int = connection.execute(
        text(
            # Trials that freeze-thaw left paused end together, at the end of the study.
            # Repeats search for nothing.
            "SELECT count(*) FROM hpo.trials t WHERE study_id = :s AND outcome = ANY(:counted)"
            f" AND paused_epoch IS NULL AND (decided_at, reservation_id) > (:at, :t) AND NOT {repeats.IS_REPEAT}"
        ),
        {"s": study_id, "counted": list(COUNTED), "at": best.decided_at, "t": best.reservation_id},
    ).scalar_one()
    return replace(goals, best_number=best.number, best_value=best.value, trials_since_best=since)


def _with_plateau(connection: Connection, study_id: int, goals: Goals, *, maximize: bool) -> Goals:
    found = repeats.read_plateau(connection, study_id, maximize=maximize)
    return replace(goals, plateau=found, noise=repeats.noise_of(connection, study_id, maximize=maximize))


def _reached(goals: Goals, *, maximize: bool) -> str:
    best, target, patience = goals.best_value, goals.target, goals.patience
    if best is not None and target is not None and (best >= target if maximize else best <= target):
        return "target"
    if best is not None and patience is not None and goals.trials_since_best >= patience:
        return "patience"
    deviation = None if goals.noise is None else goals.noise.deviation
    if goals.plateau is not None and goals.plateau.is_flat(deviation):
        return "flat"
    if goals.configurations is not None and goals.begun >= goals.configurations:
        return "space"
    if goals.max_epochs is not None and goals.epochs >= goals.max_epochs:
        return "epochs"
    return ""


def trained_epochs(connection: Connection, study_id: int) -> int:
    """Return the epochs that all trials of a study together have completed."""
    epochs: int = connection.execute(
        text("SELECT coalesce(sum(epochs), 0) FROM hpo.trials WHERE study_id = :s"), {"s": study_id}
    ).scalar_one()
    return epochs


def end_if_reached(connection: Connection, study_id: int, contains: Contains | None = None) -> str:
    """Return the goal that a study has reached, as `Goals.reached`; its row must be locked.

    The budget is lowered to the trials that were begun, which finish, unless its epochs are spent: then they wait
    for more.
    """
    goals = read(connection, study_id, contains, exact=False)
    if goals is None or not goals.reached:
        return ""
    if goals.reached != "epochs":
        budget.set_budget(connection, study_id, 0)
    return goals.reached
