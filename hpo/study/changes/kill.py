"""End one trial of a study by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, exists, select

from hpo.errors import HpoError
from hpo.outcomes import Outcome
from hpo.study.catalog import find_study, read_study
from hpo.study.results.best_trials import judged_report
from storage import leases
from storage.attempts import NEXT
from storage.optuna import trials as optuna_trials
from storage.studies import StoredStudy
from storage.tables import attempts, trials

if TYPE_CHECKING:
    from storage.engine import Database

REASON = "ended by hpo kill"


class TrialNotOpenError(HpoError):
    """The study has no such trial, or it has ended."""


@dataclass(frozen=True)
class Killed:
    """A trial that was ended by hand."""

    withdrawn: bool = False
    """Whether it was enqueued and had not begun."""
    was_running: bool = False
    """Whether an agent was training it, and still has to end it."""


def kill_trial(database: Database, name: str, number: int) -> Killed:
    """End a trial, running, waiting or paused, as pruned: it counts towards the budget, and the sampler learns from it.

    A trial that is enqueued and has not begun is withdrawn instead.

    An agent that trains it is fenced: it kills the trainer at the trial's next report or at the next renewal of its
    lease, at the latest.

    Raises:
        UnknownStudyError: no study has that name.
        TrialNotOpenError: the study has no such trial, or it has ended.
    """

    def end(connection: Connection) -> tuple[Killed, list[optuna_trials.PendingTell]]:
        study = read_study(connection, name, database)
        if optuna_trials.withdraw(connection, study.study_id, number, REASON):
            return Killed(withdrawn=True), []
        reservation_id = connection.scalar(
            select(trials.c.reservation_id).where(
                trials.c.study_id == study.study_id, trials.c.number == number
            )
        )
        if reservation_id is None:
            raise TrialNotOpenError(
                f"study {name!r} has no trial {number}: hpo trials --study {name} lists them"
            )
        if not leases.kill(
            connection, study.study_id, reservation_id, _value(connection, study, reservation_id), REASON
        ):
            raise TrialNotOpenError(
                f"trial {number} of study {name!r} has ended: hpo trials --study {name} shows how"
            )
        killed = Killed(was_running=_was_in_slot(connection, reservation_id))
        return killed, optuna_trials.pending_tell_of_trial(connection, reservation_id)

    killed, pending = database.transaction(end)
    for trial in pending:
        _tell(database, name, trial)
    return killed


def _was_in_slot(connection: Connection, reservation_id: int) -> bool:
    """Whether this transaction has ended an attempt of the trial: all others had ended before."""
    of_trial = (attempts.c.reservation_id == reservation_id, attempts.c.device != NEXT)
    by_hand = (attempts.c.outcome == Outcome.PRUNED, attempts.c.error == REASON)
    return bool(connection.scalar(select(exists().where(*of_trial, *by_hand))))


def _value(connection: Connection, study: StoredStudy, reservation_id: int) -> float | None:
    found = judged_report(connection, study, reservation_id)
    return None if found is None else found.value


def _tell(database: Database, name: str, trial: optuna_trials.PendingTell) -> None:
    """Close the trial in Optuna; if this process dies first, an agent does it."""
    import optuna

    from hpo.study.definition.twin import optuna_twin

    study = optuna_twin(database, find_study(database, name))
    study.tell(
        trial.number, state=optuna.trial.TrialState[Outcome.PRUNED.optuna_state], skip_if_finished=True
    )
    database.transaction(lambda connection: optuna_trials.mark_told(connection, trial.reservation_id))
