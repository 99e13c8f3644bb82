"""The paused trial that a free slot thaws: the best of its rung, or the one that a model of curves ranks first."""

from __future__ import annotations

from sqlalchemy import Connection

from hpo.search.freeze_thaw import FreezeThaw
from storage import repeats
from storage.budget import Counts
from storage.freeze_thaw import pauses, rungs
from storage.freeze_thaw.advice import Advice, available


def by_rank(
    connection: Connection, study_id: int, counts: Counts | None, rule: FreezeThaw, host: str
) -> int | None:
    """Thaw the paused trial that goes on now, if one does, and return its reservation.

    Without `counts`, there is room for a new configuration.
    """
    standings = rungs.read(connection, study_id, rule)
    begins = counts is None or counts.begun < counts.budget
    thawed: int | None = None
    if (rung := rule.thawed(standings)) is not None:
        thawed = rungs.on_host(connection, study_id, rule, rung, host, anyway=not begins)
    elif counts is not None and counts.held == 0 and not begins:
        thawed = rule.finalist(standings, repeats.searched_to_the_end(connection, study_id, counts))
    if thawed is not None:
        pauses.thaw(connection, thawed)
    return thawed


def by_advice(
    connection: Connection,
    study_id: int,
    host: str,
    advice: Advice | None,
    *,
    begins: bool,
) -> int | None:
    """Thaw the first trial of the model's ranking that is still paused, and return its reservation.

    It is None where a new configuration comes first. Trials that other hosts paused wait until none is left.
    """
    if advice is None:
        return None
    paused = available(connection, study_id, advice, rungs.other_hosts(connection, study_id, host))
    ranked = [one for one in advice.ranked if (begins if one is None else one in paused)]
    here = [one for one in ranked if one is None or not paused[one]]
    thawed = next(iter(here or ranked), None)
    if thawed is not None:
        pauses.thaw(connection, thawed)
    return thawed
