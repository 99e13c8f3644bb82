"""Trials that freeze-thaw has paused: they go on, end with their study, or are paused again when it is extended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage import budget
from storage.freeze_thaw import rungs
from storage.optuna import closing
from storage.repeats import IS_REPEAT


def thaw(connection: Connection, reservation_id: int) -> None:
    """Let a paused trial go on; the study's row must be locked."""
    connection.execute(
        text("UPDATE hpo.trials SET paused_epoch = NULL, paused_score = NULL WHERE reservation_id = :t"),
        {"t": reservation_id},
    )


def _value_so_far(connection: Connection, study_id: int) -> tuple[str, dict[str, Any]]:
    """Return the value of one of the study's `trials` after its epochs so far, as SQL with its parameters."""
    spec = connection.execute(
        text(
            "SELECT spec->>'metric' AS metric, spec->>'value' AS value,"
            " CASE WHEN spec->>'direction' = 'maximize' THEN -1 ELSE 1 END AS sign"
            " FROM hpo.studies WHERE study_id = :s"
        ),
        {"s": study_id},
    ).one()
    # As `objectives.trial_value.chosen` chooses.
    best = "CASE WHEN abs(e.value) < 'infinity' THEN :sign * e.value END NULLS LAST, e.epoch"
    value = (
        "(SELECT CASE WHEN abs(e.value) < 'infinity' THEN e.value END FROM"
        "   (SELECT epoch, CAST(metrics->>:metric AS float8) AS value FROM hpo.epochs"
        "    WHERE reservation_id = trials.reservation_id) AS e"
        "  WHERE e.value IS NOT NULL"
        f"  ORDER BY {best if spec.value == 'best' else 'e.epoch DESC'} LIMIT 1)"
    )
    return value, {"s": study_id, "metric": spec.metric, "sign": spec.sign}


def values_so_far(connection: Connection, study_id: int) -> dict[int, float | None]:
    """Return the value that each paused trial of a study would end with now, by reservation_id."""
    value, values = _value_so_far(connection, study_id)
    rows = connection.execute(
        text(
            f"SELECT reservation_id, {value} AS value FROM hpo.trials"
            " WHERE study_id = :s AND paused_epoch IS NOT NULL AND outcome IS NULL"
        ),
        values,
    )
    return {row.reservation_id: row.value for row in rows}


def end(connection: Connection, study_id: int) -> None:
    """Decide all paused trials as pruned, each with its value so far, in Optuna too; the study's row must be locked."""
    value, values = _value_so_far(connection, study_id)
    ended = connection.execute(
        text(
            # One time for all, because reading it takes longer the more trials there are.
            f"UPDATE hpo.trials SET outcome = :pruned, told_optuna = true, decided_at = {budget.decided_at(':s')},"
            f" value = {value}"
            " WHERE study_id = :s AND paused_epoch IS NOT NULL AND outcome IS NULL RETURNING trial_id"
        ),
        {**values, "pruned": Outcome.PRUNED},
    )
    closing.prune(connection, [trial_id for trial_id in ended.scalars() if trial_id is not None])


def reopen(connection: Connection, study_id: int) -> int:
    """Pause the trials again that `end` has decided, in Optuna too, if the budget has room; return their number.

    The study is then as if it had begun with that budget. A trial that a user has killed stays pruned.
    """
    study = budget.lock_study(connection, study_id)
    if study is None or rungs.rule_of(study) is None or budget.count(connection, study_id).left == 0:
        return 0
    reopened = connection.execute(
        text(
            "UPDATE hpo.trials SET outcome = NULL, value = NULL, decided_at = NULL, told_optuna = false"
            " WHERE study_id = :s AND outcome = :pruned AND paused_epoch IS NOT NULL"
            " RETURNING trial_id"
        ),
        {"s": study_id, "pruned": Outcome.PRUNED},
    )
    trial_ids = list(reopened.scalars())
    closing.reopen(connection, [trial_id for trial_id in trial_ids if trial_id is not None])
    return len(trial_ids)


def extend(connection: Connection, study_id: int, epoch: int) -> int:
    """Make the end of trials of so many epochs a rung at which all complete ones are paused; return their number.

    Trials that repeat another one go on without being compared, as at other rungs. Can be repeated.
    """
    budget.lock_study(connection, study_id)
    reopened = connection.execute(
        text(
            "WITH reopened AS (UPDATE hpo.trials t SET"
            f"  paused_epoch = CASE WHEN NOT {IS_REPEAT} THEN :e END, paused_score = CASE WHEN NOT {IS_REPEAT}"
            "   THEN CASE WHEN s.spec->>'direction' = 'maximize' THEN -value ELSE value END END,"
            "  outcome = NULL, value = NULL, decided_at = NULL, told_optuna = false FROM hpo.studies s"
            "  WHERE s.study_id = :s AND t.study_id = :s AND outcome = :complete AND epochs = :e"
            "  AND value IS NOT NULL RETURNING reservation_id, trial_id, paused_score),"
            " scored AS (INSERT INTO hpo.rungs (reservation_id, epoch, study_id, score)"
            "  SELECT reservation_id, :e, :s, paused_score FROM reopened WHERE paused_score IS NOT NULL"
            "  ON CONFLICT (reservation_id, epoch) DO UPDATE SET score = excluded.score)"
            " SELECT trial_id FROM reopened"
        ),
        {"s": study_id, "e": epoch, "complete": Outcome.COMPLETE},
    )
    trial_ids = list(reopened.scalars())
    closing.reopen(connection, [trial_id for trial_id in trial_ids if trial_id is not None])
    return len(trial_ids)


def leave_model(connection: Connection, study_id: int) -> None:
    """Let trials that a model has paused go on to the next rung, where they are ranked; can be repeated.

    The model pauses trials where there are no rungs without it. Those that ended with the study stay pruned.
    """
    budget.lock_study(connection, study_id)
    connection.execute(
        text(
            "UPDATE hpo.trials SET paused_epoch = NULL, paused_score = NULL"
            " WHERE study_id = :s AND paused_epoch IS NOT NULL"
        ),
        {"s": study_id},
    )


def epochs(connection: Connection, study_id: int) -> dict[int, int]:
    """Return the epoch at which each paused trial of a study is paused, by Optuna's trial_id."""
    rows = connection.execute(
        text(
            "SELECT trial_id, paused_epoch FROM hpo.trials"
            " WHERE study_id = :s AND paused_epoch IS NOT NULL AND outcome IS NULL AND trial_id IS NOT NULL"
        ),
        {"s": study_id},
    )
    return {row.trial_id: row.paused_epoch for row in rows}
